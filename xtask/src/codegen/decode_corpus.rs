//! How well real documents decode.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use meshrelay_api::{KINDS, decode_any};

use super::documents;

#[derive(Default)]
struct Counts {
    documents: usize,
    clean: usize,
    warned: usize,
    failed: usize,
}

/// Decodes every resource of our kinds below a directory, and gives a table per kind and every warning and failure.
///
/// # Errors
/// When the directory cannot be read.
pub(crate) fn report(corpus: &Path) -> anyhow::Result<String> {
    let mut counts: BTreeMap<&str, Counts> = KINDS.iter().map(|info| (info.kind, Counts::default())).collect();
    let mut told = String::new();
    for (path, documents) in documents::below(corpus)? {
        let file = path.strip_prefix(corpus).unwrap_or(&path).display().to_string();
        let documents = documents.unwrap_or_else(|error| {
            told.push_str(&format!("{file}: not YAML: {}\n", error.lines().next().unwrap_or_default()));
            Vec::new()
        });
        for document in &documents {
            let Some(decoded) = decode_any(document) else { continue };
            let Some(count) = document["kind"].as_str().and_then(|kind| counts.get_mut(kind)) else { continue };
            count.documents += 1;
            match decoded {
                Ok(decoded) if decoded.warnings.is_empty() => count.clean += 1,
                Ok(decoded) => {
                    count.warned += 1;
                    for warning in &decoded.warnings {
                        writeln!(told, "{file}: {warning}")?;
                    }
                }
                Err(error) => {
                    count.failed += 1;
                    writeln!(told, "{file}: failed: {error}")?;
                }
            }
        }
    }
    let mut report =
        format!("{:<20} {:>9} {:>7} {:>13} {:>6}\n", "kind", "documents", "clean", "with warnings", "failed");
    for (kind, Counts { documents, clean, warned, failed }) in &counts {
        writeln!(report, "{kind:<20} {documents:>9} {clean:>7} {warned:>13} {failed:>6}")?;
    }
    report.push('\n');
    report.push_str(&told);
    Ok(report)
}
