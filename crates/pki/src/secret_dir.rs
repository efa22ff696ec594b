//! A secret as a directory of files, with the names that the Kubernetes secrets have, replaced as a whole.
//!
//! The contents live in a hidden versioned sub-directory behind a `..data` link, with a link per file beside it: the
//! layout in which Kubernetes mounts secrets. Renaming one link changes all files at once, so that a crash never leaves a
//! certificate with the key of another. Plain files that somebody put there are read just as well.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::error::PkiError;

/// Secret of the root authority: [`CA_CERT`], and on the server [`TLS_KEY`].
pub const ROOT_SECRET: &str = "relay-root-tls-secret";
/// Secret of the server's certificate.
pub const SERVER_SECRET: &str = "relay-server-tls-secret";
/// Secret of the authority that signs agents' certificates.
pub const SIGNING_SECRET: &str = "relay-tls-signing-secret";
/// Secret of the shared registration token.
pub const TOKEN_SECRET: &str = "relay-identity-token-secret";
/// Secret of an agent's certificate.
pub const CLIENT_SECRET: &str = "relay-client-tls-secret";

/// File of trusted authorities.
pub const CA_CERT: &str = "ca.crt";
/// File of a certificate with its chain.
pub const TLS_CERT: &str = "tls.crt";
/// File of a private key.
pub const TLS_KEY: &str = "tls.key";
/// File of a token.
pub const TOKEN: &str = "token";

const DATA_LINK: &str = "..data";
/// Reads of a secret that is being replaced meanwhile, until two of them agree.
const READ_ATTEMPTS: usize = 5;

/// One secret's directory; it need not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretDir {
    path: PathBuf,
}

impl SecretDir {
    /// The secret `name` in a state folder.
    pub fn new(state: &Path, name: &str) -> Self {
        Self { path: state.join(name) }
    }

    /// The path of one of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Reads several files as of one moment; `None` for those that do not exist.
    ///
    /// # Errors
    /// [`PkiError::Read`] when one exists but cannot be read, or the secret changes all the time.
    pub fn read<const N: usize>(&self, names: [&str; N]) -> Result<[Option<Zeroizing<Vec<u8>>>; N], PkiError> {
        let paths = names.map(|name| self.file(name));
        let read = read_together(&paths)?;
        let miscounted = || io::Error::other("it has another number of files than were asked for");
        read.try_into().map_err(|_| PkiError::read(&self.path)(miscounted()))
    }

    /// Replaces the contents: afterwards the secret has exactly these files. Old or new, never a mix.
    ///
    /// # Errors
    /// [`PkiError::Write`]; the old contents are then still in force.
    pub fn replace(&self, files: &[(&str, &[u8])]) -> Result<(), PkiError> {
        make_private_dir(&self.path)?;
        let old = fs::read_link(self.path.join(DATA_LINK)).ok();
        let version = format!("..{:016x}", rand::random::<u64>());
        let data = self.path.join(&version);
        make_private_dir(&data)?;
        let written = files
            .iter()
            .try_for_each(|(name, bytes)| write_private(&data.join(name), bytes))
            .and_then(|()| sync_dir(&data))
            .and_then(|()| self.link(DATA_LINK, Path::new(&version)));
        if let Err(error) = written {
            // The old contents are still in force; what was half written is of no use.
            let _ = fs::remove_dir_all(&data);
            return Err(error);
        }
        for (name, _) in files {
            let target = Path::new(DATA_LINK).join(name);
            if fs::read_link(self.file(name)).is_ok_and(|found| found == target) {
                continue;
            }
            self.link(name, &target)?;
        }
        self.remove_others(files)?;
        sync_dir(&self.path)?;
        if let Some(old) = old.filter(|old| old.as_os_str() != version.as_str() && old.components().count() == 1) {
            // A left-over version does no harm, so its removal may fail.
            let _ = fs::remove_dir_all(self.path.join(old));
        }
        Ok(())
    }

    /// Removes the secret; nothing happens when there is none.
    ///
    /// # Errors
    /// [`PkiError::Write`] when it cannot be removed.
    pub fn remove(&self) -> Result<(), PkiError> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(PkiError::write(&self.path)(error)),
            _ => Ok(()),
        }
    }

    /// Puts a link in place of whatever has that name, in one step.
    fn link(&self, name: &str, target: &Path) -> Result<(), PkiError> {
        let path = self.path.join(name);
        let temporary = self.path.join(format!("..tmp-{:016x}", rand::random::<u64>()));
        std::os::unix::fs::symlink(target, &temporary)
            .and_then(|()| fs::rename(&temporary, &path))
            .inspect_err(|_| drop(fs::remove_file(&temporary)))
            .map_err(PkiError::write(&path))
    }

    /// Removes the links to files that the new contents no longer have.
    fn remove_others(&self, files: &[(&str, &[u8])]) -> Result<(), PkiError> {
        for entry in fs::read_dir(&self.path).map_err(PkiError::read(&self.path))? {
            let entry = entry.map_err(PkiError::read(&self.path))?;
            let name = entry.file_name();
            let ours = fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(DATA_LINK));
            if ours && !files.iter().any(|(kept, _)| name == *kept) {
                fs::remove_file(entry.path()).map_err(PkiError::write(&entry.path()))?;
            }
        }
        Ok(())
    }
}

/// Contents of several files; `None` for those that do not exist. Wiped from memory when dropped.
pub(crate) type Contents = Vec<Option<Zeroizing<Vec<u8>>>>;

/// Reads files as of one moment: again and again until two readings agree.
pub(crate) fn read_together(paths: &[PathBuf]) -> Result<Contents, PkiError> {
    let read_all = || {
        let read = |path: &PathBuf| match fs::read(path) {
            Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(PkiError::read(path)(error)),
        };
        paths.iter().map(read).collect::<Result<Contents, _>>()
    };
    let mut before = read_all()?;
    for _ in 0..READ_ATTEMPTS {
        let now = read_all()?;
        if before == now {
            return Ok(now);
        }
        before = now;
    }
    let changing = io::Error::other("it changed during every attempt to read it");
    Err(PkiError::read(paths.first().map_or_else(|| Path::new(""), PathBuf::as_path))(changing))
}

/// Writes one file in one step (temporary file, then rename), readable by its owner only.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    make_private_dir(directory)?;
    let temporary = directory.join(format!("..tmp-{:016x}", rand::random::<u64>()));
    write_private(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path).map_err(PkiError::write(path)))
        .inspect_err(|_| drop(fs::remove_file(&temporary)))?;
    sync_dir(directory)
}

/// Waits for the only lock of that name; it is held until the file is dropped, or the process ends.
pub(crate) fn lock(path: &Path) -> Result<fs::File, PkiError> {
    fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .and_then(|file| file.lock().map(|()| file))
        .map_err(PkiError::write(path))
}

/// Makes a directory for its owner only; one that exists is left as it is.
pub(crate) fn make_private_dir(path: &Path) -> Result<(), PkiError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(PkiError::write(path))
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(PkiError::write(path))
}

fn sync_dir(path: &Path) -> Result<(), PkiError> {
    fs::File::open(path).and_then(|dir| dir.sync_all()).map_err(PkiError::write(path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn text(bytes: &Option<Zeroizing<Vec<u8>>>) -> Option<&str> {
        bytes.as_ref().map(|bytes| std::str::from_utf8(bytes).unwrap())
    }

    #[test]
    fn contents_are_replaced_as_a_whole_and_private() {
        let state = tempfile::tempdir().unwrap();
        let secret = SecretDir::new(state.path(), CLIENT_SECRET);
        assert!(secret.read([TLS_CERT]).unwrap()[0].is_none());
        secret.replace(&[(TLS_CERT, b"c1"), (TLS_KEY, b"k1"), (TOKEN, b"t")]).unwrap();
        secret.replace(&[(TLS_CERT, b"c2"), (TLS_KEY, b"k2")]).unwrap();
        let [cert, key, token] = secret.read([TLS_CERT, TLS_KEY, TOKEN]).unwrap();
        assert_eq!((text(&cert), text(&key), text(&token)), (Some("c2"), Some("k2"), None));
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(secret.file(TLS_KEY)), mode(secret.file(""))), (0o600, 0o700));
        let names: Vec<_> = fs::read_dir(secret.file("")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 4, "link, version, two files: {names:?}");
    }

    #[test]
    fn plain_files_are_read_and_replaced() {
        let state = tempfile::tempdir().unwrap();
        let secret = SecretDir::new(state.path(), SERVER_SECRET);
        fs::create_dir(secret.file("")).unwrap();
        fs::write(secret.file(TLS_CERT), "old").unwrap();
        fs::write(secret.file("note.txt"), "mine").unwrap();
        assert_eq!(text(&secret.read([TLS_CERT]).unwrap()[0]), Some("old"));
        secret.replace(&[(TLS_CERT, b"new")]).unwrap();
        let [cert, note] = secret.read([TLS_CERT, "note.txt"]).unwrap();
        assert_eq!((text(&cert), text(&note)), (Some("new"), Some("mine")));
    }

    #[test]
    fn a_failed_replacement_changes_nothing() {
        let state = tempfile::tempdir().unwrap();
        let secret = SecretDir::new(state.path(), CLIENT_SECRET);
        secret.replace(&[(TLS_CERT, b"c1"), (TLS_KEY, b"k1")]).unwrap();
        let error = secret.replace(&[(TLS_CERT, b"c2"), ("no/such/dir", b"k2")]).unwrap_err();
        assert_eq!(error.code(), "MR0301");
        let [cert, key] = secret.read([TLS_CERT, TLS_KEY]).unwrap();
        assert_eq!((text(&cert), text(&key)), (Some("c1"), Some("k1")));
        assert_eq!(fs::read_dir(secret.file("")).unwrap().count(), 4, "nothing is left over");
    }

    #[test]
    fn readers_never_see_a_mix() {
        let state = tempfile::tempdir().unwrap();
        let secret = SecretDir::new(state.path(), CLIENT_SECRET);
        secret.replace(&[(TLS_CERT, b"0"), (TLS_KEY, b"0")]).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for n in 1..100 {
                    let text = n.to_string();
                    secret.replace(&[(TLS_CERT, text.as_bytes()), (TLS_KEY, text.as_bytes())]).unwrap();
                }
            });
            while !writer.is_finished() {
                // A reader may lose every race and say so; it must not return two halves.
                if let Ok([cert, key]) = secret.read([TLS_CERT, TLS_KEY]) {
                    assert_eq!(cert, key);
                }
            }
        });
    }
}
