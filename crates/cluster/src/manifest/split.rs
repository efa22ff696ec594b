/// One YAML document as it stands in its file, with its `---` line and comments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk<'a> {
    /// Line of the file on which the text begins, from 1.
    pub(super) first_line: usize,
    pub(super) text: &'a str,
}

/// Cuts a file at its document markers, which only count at the beginning of a line, where no other YAML may have
/// them. Documents without content are left out.
pub(super) fn split(text: &str) -> impl Iterator<Item = Chunk<'_>> {
    let mut rest = text;
    let mut line = 1;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (length, lines, content) = measure(rest);
            let chunk = Chunk { first_line: line, text: &rest[..length] };
            rest = &rest[length..];
            line += lines;
            if content {
                return Some(chunk);
            }
        }
        None
    })
}

/// Bytes and lines of the first document, and whether there is anything in it.
fn measure(text: &str) -> (usize, usize, bool) {
    let (mut length, mut lines) = (0, 0);
    let (mut marked, mut content) = (false, false);
    for line in text.split_inclusive('\n') {
        let after = |marker| {
            let rest = line.strip_prefix(marker)?;
            (rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n'])).then_some(rest)
        };
        let written = if let Some(rest) = after("---") {
            if marked || content {
                break;
            }
            marked = true;
            rest
        } else if after("...").is_some() {
            return (length + line.len(), lines + 1, content);
        } else if !content && line.starts_with('%') {
            ""
        } else {
            line
        };
        length += line.len();
        lines += 1;
        let written = written.trim();
        content |= !written.is_empty() && !written.starts_with('#');
    }
    (length, lines, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(text: &str) -> Vec<(usize, &str)> {
        split(text).map(|chunk| (chunk.first_line, chunk.text)).collect()
    }

    #[test]
    fn documents_are_cut_at_markers_and_empty_ones_left_out() {
        assert_eq!(chunks(""), []);
        assert_eq!(chunks("---\n---\n# nothing\n---"), []);
        assert_eq!(chunks("a: 1\n---\nb: 2\n"), [(1, "a: 1\n"), (2, "---\nb: 2\n")]);
        assert_eq!(chunks("# licence\n---\na: 1"), [(1, "# licence\n---\na: 1")]);
        assert_eq!(
            chunks("%YAML 1.2\n--- # one\na: 1\r\n---\r\nb: 2"),
            [(1, "%YAML 1.2\n--- # one\na: 1\r\n"), (4, "---\r\nb: 2")]
        );
        assert_eq!(chunks("a: 1\n...\n# end\n---\nb: 2"), [(1, "a: 1\n...\n"), (3, "# end\n---\nb: 2")]);
        assert_eq!(chunks("a: |\n  ---\n  x\n----: 1\n"), [(1, "a: |\n  ---\n  x\n----: 1\n")]);
    }
}
