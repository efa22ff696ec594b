//! The Lua scripts: each is one step for Redis, which is what makes a write and its place in the feed one.

use std::sync::LazyLock;

use redis::Value;

/// A script with the hash by which Redis knows it once it has seen it.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) code: &'static str,
    pub(super) hash: String,
}

impl Script {
    fn new(code: &'static str) -> Self {
        Self { code, hash: redis::Script::new(code).get_hash().to_owned() }
    }
}

macro_rules! scripts {
    ($($name:ident = $file:literal;)*) => {
        $(
            pub(super) static $name: LazyLock<Script> =
                LazyLock::new(|| Script::new(concat!(include_str!("scripts/prelude.lua"), "\n", include_str!($file))));
        )*
    };
}

scripts! {
    PROBE = "scripts/probe.lua";
    PUT = "scripts/put.lua";
    LOAD = "scripts/load.lua";
    REMOVE = "scripts/remove.lua";
    LIST = "scripts/list.lua";
    DOCUMENT = "scripts/document.lua";
    PUT_DOCUMENT = "scripts/put_document.lua";
    REMOVE_DOCUMENT = "scripts/remove_document.lua";
    SET_LIVE = "scripts/set_live.lua";
    LIVE = "scripts/live.lua";
    ACQUIRE = "scripts/acquire.lua";
    RELEASE = "scripts/release.lua";
    CHANGES = "scripts/changes.lua";
}

/// What a script gave: a list of texts, some of which may be missing.
#[derive(Debug)]
pub(super) struct Reply(std::vec::IntoIter<Value>);

impl Reply {
    /// Every script gives a list; anything else did not come from one.
    pub(super) fn new(value: Value) -> Result<Self, String> {
        match value {
            Value::Array(values) => Ok(Self(values.into_iter())),
            other => Err(format!("expected a list from a script, found {other:?}")),
        }
    }

    /// The next one, which may be missing.
    pub(super) fn optional(&mut self) -> Result<Option<Vec<u8>>, String> {
        match self.0.next() {
            None | Some(Value::Nil) => Ok(None),
            Some(Value::BulkString(bytes)) => Ok(Some(bytes)),
            Some(other) => Err(format!("expected a text from a script, found {other:?}")),
        }
    }

    /// The next one.
    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, String> {
        self.optional()?.ok_or_else(|| "expected a text from a script, found nothing".to_owned())
    }

    /// The next one, as text.
    pub(super) fn text(&mut self) -> Result<String, String> {
        String::from_utf8(self.bytes()?).map_err(|_| "expected text from a script, found other bytes".to_owned())
    }

    /// The next one, as a number.
    pub(super) fn number(&mut self) -> Result<u64, String> {
        let text = self.text()?;
        text.parse().map_err(|_| format!("expected a number from a script, found {text:?}"))
    }

    /// True if nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.0.as_slice().is_empty()
    }
}
