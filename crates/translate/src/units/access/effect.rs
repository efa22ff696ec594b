//! What an AccessPolicy, or the isolation of a workspace, says; without what it says it of.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use meshrelay_api::admin::EnforcementLayers;
use meshrelay_api::istio::authorization_policy::{Condition, From, Operation, Rule, Source, To};
use meshrelay_api::istio::peer_authentication::{MutualTls, MutualTlsMode};
use meshrelay_api::security::TlsMode;
use meshrelay_snapshot::{Gvk, Name, Pieces};

use crate::fingerprint::{Derived, Shared};
use crate::model::{Pods, Principals};
use crate::output::{add_with_first_field, written};

/// What is said.
#[derive(Debug, Hash)]
pub(super) struct Effect {
    /// What is allowed, any of these; `None` where nothing is said about that.
    pub(super) grants: Option<Vec<Grant>>,
    /// Whether connections must use mutual TLS; `None` leaves it as it is.
    pub(super) tls: Option<Tls>,
    /// What enforces it where the choice is made; `None` for everything available.
    pub(super) layers: Option<Layers>,
    /// See [`Effect::reads`].
    pub(super) reads: Derived<Arc<BTreeSet<(Name, Gvk)>>>,
}

/// Kinds that tell which callers there are and what their identities are.
static CALLERS: LazyLock<[Gvk; 6]> = LazyLock::new(|| {
    [
        Gvk::new("internal.gloo.solo.io", "v2", "Mesh"),
        Gvk::new("", "v1", "Namespace"),
        Gvk::new("", "v1", "ServiceAccount"),
        Gvk::new("apps", "v1", "Deployment"),
        Gvk::new("apps", "v1", "StatefulSet"),
        Gvk::new("apps", "v1", "DaemonSet"),
    ]
});

impl Effect {
    /// The kinds of the clusters that callers come from.
    pub(super) fn reads(&self) -> &Arc<BTreeSet<(Name, Gvk)>> {
        self.reads.get(|| Arc::new(self.callers_read()))
    }

    fn callers_read(&self) -> BTreeSet<(Name, Gvk)> {
        let clients = self.grants.iter().flatten().filter_map(|grant| grant.clients.as_ref()).flatten();
        let clusters = clients.flat_map(|client| match &client.who {
            Some(Who::These(principals)) => principals.pods.keys().cloned().collect(),
            _ => Vec::new(),
        });
        let clusters: BTreeSet<Name> = clusters.collect();
        clusters.iter().flat_map(|cluster| CALLERS.iter().map(|kind| (cluster.clone(), kind.clone()))).collect()
    }
}

/// What enforces something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Layers {
    pub(super) mesh: bool,
    pub(super) cni: bool,
}

impl Layers {
    /// The layers that are chosen. To choose none is to choose nothing: a rule that nothing enforces was hardly meant.
    pub(super) fn chosen(layers: Option<&EnforcementLayers>) -> Option<Self> {
        layers.map(|layers| Self { mesh: layers.mesh, cni: layers.cni }).filter(|layers| layers.mesh || layers.cni)
    }
}

impl Effect {
    /// What enforces it in a cluster.
    pub(super) fn layers(&self, has_cilium: bool) -> Layers {
        self.layers.unwrap_or(Layers { mesh: true, cni: has_cilium })
    }

    /// Whether something is refused because of it, and not only logged.
    pub(super) fn is_enforced(&self) -> bool {
        self.grants.as_ref().is_some_and(|grants| grants.is_empty() || grants.iter().any(|grant| !grant.dry_run))
    }

    /// The rules for what is allowed, with dry run or without; `None` where there is nothing of the sort, and
    /// nothing written for no rule at all, which allows nothing.
    pub(super) fn rules(&self, dry_run: bool, ports: &[String]) -> Option<Pieces> {
        let grants = self.grants.as_ref()?;
        let mut of_sort = grants.iter().filter(|grant| grant.dry_run == dry_run).peekable();
        if of_sort.peek().is_none() && (dry_run || !grants.is_empty()) {
            return None;
        }
        let mut rules = Pieces::default();
        for (index, grant) in of_sort.filter(|grant| !grant.is_nothing()).enumerate() {
            rules.add(if index == 0 { b"[" } else { b"," });
            grant.write(ports, &mut rules);
        }
        if !rules.is_empty() {
            rules.add(b"]");
        }
        Some(rules)
    }
}

/// Whether connections must use mutual TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Tls {
    Disable,
    Permissive,
    Strict,
}

impl Tls {
    /// `None` for a mode that this version does not know.
    pub(super) fn new(mode: &TlsMode) -> Option<Self> {
        match mode {
            TlsMode::Disable => Some(Self::Disable),
            TlsMode::Permissive => Some(Self::Permissive),
            TlsMode::Strict => Some(Self::Strict),
            TlsMode::Unknown(_) => None,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "DISABLE",
            Self::Permissive => "PERMISSIVE",
            Self::Strict => "STRICT",
        }
    }

    pub(super) fn to_istio(self) -> MutualTls {
        let mode = match self {
            Self::Disable => MutualTlsMode::Disable,
            Self::Permissive => MutualTlsMode::Permissive,
            Self::Strict => MutualTlsMode::Strict,
        };
        MutualTls { mode: Some(mode) }
    }
}

/// What is allowed; all conditions must hold together. Without any, nothing is allowed.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Grant {
    /// Who may call, any of these; `None` for everybody.
    pub(super) clients: Option<Vec<Client>>,
    pub(super) paths: Vec<String>,
    pub(super) methods: Vec<String>,
    /// Name, values and forbidden values.
    pub(super) headers: Vec<(String, Vec<String>, Vec<String>)>,
    pub(super) ip_blocks: Vec<String>,
    pub(super) remote_ip_blocks: Vec<String>,
    pub(super) dry_run: bool,
    /// A condition was given that nothing can meet.
    pub(super) is_impossible: bool,
    /// JSON of [`Grant::from`].
    pub(super) written: Derived<Arc<[u8]>>,
}

/// Callers. All that is given must hold together.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Client {
    /// By identity; `None` where that does not matter.
    pub(super) who: Option<Who>,
    pub(super) request_principals: Vec<String>,
    pub(super) not_request_principals: Vec<String>,
}

/// Callers by identity.
#[derive(Clone, Debug, Hash)]
pub(super) enum Who {
    /// Whoever has an identity.
    Anybody,
    These(Shared<Principals>),
}

impl Grant {
    /// Whether it allows nothing.
    pub(super) fn is_nothing(&self) -> bool {
        let nobody = self.clients.as_ref().is_some_and(Vec::is_empty);
        self.is_impossible || nobody || (self.clients.is_none() && !self.has_addresses() && !self.concerns_requests())
    }

    fn has_addresses(&self) -> bool {
        !(self.ip_blocks.is_empty() && self.remote_ip_blocks.is_empty())
    }

    /// Whether it has conditions that only a proxy can check.
    pub(super) fn concerns_requests(&self) -> bool {
        !(self.paths.is_empty() && self.methods.is_empty() && self.headers.is_empty())
    }

    /// The identities that it names.
    pub(super) fn identities(&self) -> impl Iterator<Item = &String> {
        let clients = self.clients.iter().flatten();
        clients
            .filter_map(|client| match &client.who {
                Some(Who::These(principals)) => Some(&principals.identities),
                _ => None,
            })
            .flatten()
    }

    /// Writes the rule. Callers can be many, and the same for many Services: they are written once.
    fn write(&self, ports: &[String], json: &mut Pieces) {
        let rest = written(&self.rule(ports));
        let from = self.written.get(|| written(&self.from()).into());
        if **from == *b"[]" {
            return json.add(&rest);
        }
        let mut value = Pieces::default();
        value.share(from);
        add_with_first_field(json, "from", &value, &rest);
    }

    /// Where requests must come from, any of these.
    fn from(&self) -> Vec<From> {
        let addressed = Source {
            ip_blocks: self.ip_blocks.clone(),
            remote_ip_blocks: self.remote_ip_blocks.clone(),
            ..Source::default()
        };
        let from = |client: &Client| {
            let principals = match &client.who {
                None => Vec::new(),
                Some(Who::Anybody) => vec!["*".to_owned()],
                Some(Who::These(principals)) => principals.identities.iter().cloned().collect(),
            };
            let source = Source {
                principals,
                request_principals: client.request_principals.clone(),
                not_request_principals: client.not_request_principals.clone(),
                ..addressed.clone()
            };
            From { source: Some(source) }
        };
        match &self.clients {
            Some(clients) => clients.iter().map(from).collect(),
            None if self.has_addresses() => vec![From { source: Some(addressed) }],
            None => Vec::new(),
        }
    }

    /// The rule without callers.
    fn rule(&self, ports: &[String]) -> Rule {
        let operation = Operation {
            methods: self.methods.clone(),
            paths: self.paths.clone(),
            ports: ports.to_vec(),
            ..Operation::default()
        };
        let to = if operation == Operation::default() { vec![] } else { vec![To { operation: Some(operation) }] };
        let condition = |(name, values, not_values): &(String, Vec<String>, Vec<String>)| Condition {
            key: format!("request.headers[{name}]"),
            values: values.clone(),
            not_values: not_values.clone(),
        };
        Rule { from: Vec::new(), to, when: self.headers.iter().map(condition).collect() }
    }
}

/// The identities that an effect names.
pub(super) fn identities(effect: &Effect) -> BTreeSet<&String> {
    effect.grants.iter().flatten().flat_map(Grant::identities).collect()
}

/// Where callers of a cluster come in through gateways, which stand for callers of other clusters.
pub(super) type Doors = BTreeSet<Pods>;
