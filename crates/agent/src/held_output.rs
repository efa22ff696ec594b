//! The last output on disk: what a restarted agent holds before it has reached a server.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use meshrelay_relay::Held;
use meshrelay_snapshot::{Name, Object, Snapshot, SnapshotMeta};
use serde::{Deserialize, Serialize};

/// Compression level: the default of zstd, since the file is written once per output.
const LEVEL: i32 = 3;

/// Largest file that is read back, decoded; more is not an output of ours.
const MAX_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// First line of the file; each further line is the canonical JSON of one object.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    cluster: Name,
    version: u64,
    digest: meshrelay_snapshot::ContentHash,
    meta: SnapshotMeta,
}

#[derive(Clone, Debug)]
pub(crate) struct HeldOutputFile {
    path: PathBuf,
    cluster: Name,
}

impl HeldOutputFile {
    pub(crate) fn new(state_directory: &Path, cluster: Name) -> Self {
        Self { path: state_directory.join("last-output.jsonl.zst"), cluster }
    }

    /// The file with what is in force while that is not the last output.
    pub(crate) fn in_force(state_directory: &Path, cluster: Name) -> Self {
        Self { path: state_directory.join("in-force.jsonl.zst"), cluster }
    }

    /// Removes the file, if there is one.
    pub(crate) fn remove(&self) -> std::io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Writes the visible snapshot, in one step. If it fails, what is there is as it was.
    pub(crate) fn store(&self, held: &Held) -> std::io::Result<()> {
        let temporary = self.path.with_extension("tmp");
        let written = self.write(&temporary, held).and_then(|()| std::fs::rename(&temporary, &self.path));
        if written.is_err() {
            // Half a file takes room that others lack.
            let _ = std::fs::remove_file(&temporary);
        }
        written
    }

    fn write(&self, path: &Path, held: &Held) -> std::io::Result<()> {
        let mut encoder = zstd::Encoder::new(std::fs::File::create(path)?, LEVEL)?;
        let snapshot = held.visible();
        let head = Head {
            cluster: self.cluster.clone(),
            version: held.version(),
            digest: snapshot.digest(),
            meta: snapshot.meta().clone(),
        };
        encoder.write_all(&serde_json::to_vec(&head)?)?;
        for object in snapshot.iter() {
            encoder.write_all(b"\n")?;
            for piece in object.pieces().iter() {
                encoder.write_all(piece)?;
            }
        }
        encoder.finish()?.sync_all()
    }

    /// Reads it back; `None` if there is none. A file that is damaged is an error and not half an output.
    pub(crate) fn load(&self) -> std::io::Result<Option<Held>> {
        let file = match std::fs::File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        zstd::Decoder::new(file)?.take(MAX_BYTES).read_to_string(&mut text)?;
        let mut lines = text.lines();
        let head: Head = serde_json::from_str(lines.next().unwrap_or_default())?;
        if head.cluster != self.cluster {
            // Applied here, it would delete all that this cluster has.
            let message = format!("it is the output of cluster {}, not of {}", head.cluster, self.cluster);
            return Err(std::io::Error::other(message));
        }
        let objects = lines.map(|line| Object::from_canonical(line.as_bytes()).map(Arc::new));
        let mut snapshot: Snapshot = objects.collect::<Result<_, _>>().map_err(std::io::Error::other)?;
        snapshot.set_meta(head.meta);
        if snapshot.digest() != head.digest {
            return Err(std::io::Error::other("its digest does not match its content"));
        }
        Ok(Some(Held::restored(Arc::new(snapshot), head.version)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_output_survives_a_restart_and_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let file = HeldOutputFile::new(folder.path(), "one".into());
        assert!(file.load().unwrap().is_none());
        let object = |name: &str| {
            let value = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "n"}});
            Arc::new(Object::from_value(&value).unwrap())
        };
        let snapshot: Snapshot = [object("a"), object("b")].into_iter().collect();
        let held = Held::restored(Arc::new(snapshot.clone()), 7);
        file.store(&held).unwrap();
        let read = file.load().unwrap().unwrap();
        assert_eq!((&**read.visible(), read.version()), (&snapshot, 7));

        let other = HeldOutputFile::new(folder.path(), "two".into()).load().unwrap_err().to_string();
        assert!(other.contains("cluster one, not of two"), "{other}");

        let (digest, meta) = (held.digest(), SnapshotMeta::default());
        let head = serde_json::to_string(&Head { cluster: "one".into(), version: 7, digest, meta });
        let cut_off = format!("{}\n{}", head.unwrap(), String::from_utf8_lossy(&object("a").body()));
        std::fs::write(&file.path, zstd::encode_all(cut_off.as_bytes(), LEVEL).unwrap()).unwrap();
        assert!(file.load().is_err());
    }
}
