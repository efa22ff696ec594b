use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};

use crate::Notation;

/// Deepest folder below a cluster's that is read; deeper ones are most likely a symbolic link to a folder above.
const MAX_DEPTH: usize = 16;

/// Folders that hold something else than the cluster's resources.
const OTHER_FOLDERS: [&str; 2] = ["expected", "revisions"];

/// What tells that a file or folder has another content than before, at the cost of one system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    length: u64,
    modified: i128,
    changed: i128,
    inode: u64,
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
            Self {
                length: metadata.len(),
                modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
                changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
                inode: metadata.ino(),
            }
        }
        #[cfg(not(unix))]
        {
            let modified = metadata.modified().ok();
            let since = modified.and_then(|time| time.duration_since(std::time::SystemTime::UNIX_EPOCH).ok());
            let modified = since.map_or(0, |since| since.as_nanos().try_into().unwrap_or(i128::MAX));
            Self { length: metadata.len(), modified, changed: 0, inode: 0 }
        }
    }
}

/// Names of files and folders that are never read: hidden ones (`.meshrelay` among them), kustomizations, and folders
/// for expected outputs and old revisions.
pub(crate) fn is_other_folder(name: &str) -> bool {
    name.starts_with('.') || OTHER_FOLDERS.contains(&name)
}

/// How a file is written, by its ending; `None` for files that are no manifests.
pub(crate) fn notation(path: &str) -> Option<Notation> {
    let name = path.rsplit('/').next()?;
    let (stem, ending) = name.rsplit_once('.')?;
    if name.starts_with('.') || stem.eq_ignore_ascii_case("kustomization") {
        return None;
    }
    match ending {
        "yaml" | "yml" => Some(Notation::Yaml),
        "json" => Some(Notation::Json),
        _ => None,
    }
}

/// The manifests of a cluster's folder with their stamps, and which of its files and folders could not be read. Paths
/// are relative to the folder, with `/` between their parts; as text, because comparing that costs a tenth of
/// comparing paths.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) files: BTreeMap<String, Stamp>,
    pub(crate) unreadable: BTreeMap<String, String>,
}

impl Listing {
    /// True if absence of a path means that there is no such file.
    pub(crate) fn knows(&self, path: &str) -> bool {
        !self.unreadable.keys().any(|folder| {
            path.strip_prefix(folder.as_str())
                .is_some_and(|rest| folder.is_empty() || rest.is_empty() || rest.starts_with('/'))
        })
    }
}

/// What is remembered of a folder, so that an idle one costs one system call for itself and each file.
#[derive(Debug)]
struct Folder {
    full: PathBuf,
    stamp: Stamp,
    /// Listed twice with the same stamp. Within one tick of the file system's clock a folder can change without
    /// changing its stamp, so one listing is not enough.
    confirmed: bool,
    files: Vec<KnownFile>,
    folders: Vec<String>,
}

#[derive(Debug)]
struct KnownFile {
    path: String,
    full: PathBuf,
    /// What the last listing saw; nothing if that was no file.
    stamp: Option<Stamp>,
}

/// Lists a cluster's folder again and again.
#[derive(Debug)]
pub(crate) struct Walker {
    root: PathBuf,
    folders: BTreeMap<String, Folder>,
    /// True if the last listing could read everything.
    whole: bool,
}

impl Walker {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, folders: BTreeMap::new(), whole: false }
    }

    /// Where a file is.
    pub(crate) fn full(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// The folders of the last listing, each with its inode.
    pub(crate) fn folders(&self) -> impl Iterator<Item = (&Path, u64)> {
        self.folders.values().map(|folder| (folder.full.as_path(), folder.stamp.inode))
    }

    /// True if another listing would be the same as the last one.
    pub(crate) fn is_unchanged(&self) -> bool {
        let stamp = |path: &Path| std::fs::metadata(path).ok().map(|metadata| Stamp::of(&metadata));
        self.whole
            && self.folders.values().all(|folder| {
                folder.confirmed
                    && stamp(&folder.full) == Some(folder.stamp)
                    && folder.files.iter().all(|file| stamp(&file.full) == file.stamp)
            })
    }

    /// All manifests there are now.
    pub(crate) fn list(&mut self) -> Listing {
        let mut listing = Listing::default();
        let mut seen = BTreeMap::new();
        self.visit(String::new(), 0, &mut listing, &mut seen);
        self.folders = seen;
        self.whole = listing.unreadable.is_empty();
        listing
    }

    fn visit(&mut self, path: String, depth: usize, listing: &mut Listing, seen: &mut BTreeMap<String, Folder>) {
        let known = self.folders.remove(&path);
        let mut folder = match self.refresh(&path, known) {
            Ok(folder) => folder,
            // The folder went away between its parent's listing and now: its files are gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound && depth > 0 => return,
            Err(error) => {
                listing.unreadable.insert(path, error.to_string());
                return;
            }
        };
        for file in &mut folder.files {
            file.stamp = match std::fs::metadata(&file.full) {
                Ok(metadata) => metadata.is_file().then(|| Stamp::of(&metadata)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => {
                    listing.unreadable.insert(file.path.clone(), error.to_string());
                    None
                }
            };
            if let Some(stamp) = file.stamp {
                listing.files.insert(file.path.clone(), stamp);
            }
        }
        for below in &folder.folders {
            if depth < MAX_DEPTH {
                self.visit(below.clone(), depth + 1, listing, seen);
            } else {
                listing.unreadable.insert(below.clone(), format!("more than {MAX_DEPTH} folders deep"));
            }
        }
        seen.insert(path, folder);
    }

    fn refresh(&self, path: &str, known: Option<Folder>) -> io::Result<Folder> {
        let full = if path.is_empty() { self.root.clone() } else { self.full(path) };
        let stamp = Stamp::of(&std::fs::metadata(&full)?);
        let confirmed = match known {
            Some(folder) if folder.stamp == stamp && folder.confirmed => return Ok(folder),
            Some(folder) => folder.stamp == stamp,
            None => false,
        };
        let (mut files, mut folders) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(&full)? {
            let entry = entry?;
            let name = entry.file_name();
            // A name that is not UTF-8 cannot be a manifest: its ending would not be known.
            let Some(name) = name.to_str() else { continue };
            let below = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            let kind = entry.file_type()?;
            // Links are followed: a mounted ConfigMap is a folder of links.
            let is_folder = kind.is_dir() || kind.is_symlink() && entry.path().is_dir();
            if is_folder {
                if !is_other_folder(name) {
                    folders.push(below);
                }
            } else if notation(name).is_some() {
                files.push(KnownFile { path: below, full: entry.path(), stamp: None });
            }
        }
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        folders.sort_unstable();
        Ok(Folder { full, stamp, confirmed, files, folders })
    }
}
