use serde_saphyr::granit_parser::{Event, Parser, Span};

/// One step on the way from the root of a document to a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// Line and column, from 1, of the value at a path; `None` where the path does not lead to a value that is written
/// there (an alias, a merged key).
pub(super) fn locate(text: &str, path: &[Step<'_>]) -> Option<(usize, usize)> {
    let mut nodes = Parser::new_from_str(text).map_while(Result::ok).filter(|(event, _)| is_node(event));
    let (mut event, mut span) = nodes.next()?;
    for step in path {
        match (step, &event) {
            (Step::Key(wanted), Event::MappingStart(..)) => loop {
                let (key, _) = nodes.next()?;
                let found = matches!(&key, Event::Scalar(text, ..) if text == wanted);
                skip(key, &mut nodes)?;
                if found {
                    break;
                }
                let (value, _) = nodes.next()?;
                skip(value, &mut nodes)?;
            },
            (Step::Index(index), Event::SequenceStart(..)) => {
                for _ in 0..*index {
                    let (item, _) = nodes.next()?;
                    skip(item, &mut nodes)?;
                }
            }
            _ => return None,
        }
        (event, span) = nodes.next()?;
        if matches!(event, Event::SequenceEnd | Event::MappingEnd) {
            return None;
        }
    }
    Some((span.start.line(), span.start.col() + 1))
}

fn is_node(event: &Event<'_>) -> bool {
    matches!(
        event,
        Event::Alias(..)
            | Event::Scalar(..)
            | Event::SequenceStart(..)
            | Event::SequenceEnd
            | Event::MappingStart(..)
            | Event::MappingEnd
    )
}

/// Passes over the rest of the node that begins with `first`; `None` if the collection around it ends there instead.
fn skip<'a>(first: Event<'a>, nodes: &mut impl Iterator<Item = (Event<'a>, Span)>) -> Option<()> {
    let mut depth = 0_usize;
    let mut event = first;
    loop {
        match event {
            Event::SequenceStart(..) | Event::MappingStart(..) => depth += 1,
            Event::SequenceEnd | Event::MappingEnd => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return Some(());
        }
        event = nodes.next()?.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_path() {
        let text = "# c\nmetadata:\n  name: a\n  labels: {x: y,\n    version: 1}\nitems:\n- [1, 2]\n-   kind: B\n";
        let at = |path: &[Step<'_>]| locate(text, path);
        assert_eq!(at(&[]), Some((2, 1)));
        assert_eq!(at(&[Step::Key("metadata"), Step::Key("name")]), Some((3, 9)));
        assert_eq!(at(&[Step::Key("metadata"), Step::Key("labels"), Step::Key("version")]), Some((5, 14)));
        assert_eq!(at(&[Step::Key("items"), Step::Index(1), Step::Key("kind")]), Some((8, 11)));
        assert_eq!(at(&[Step::Key("items"), Step::Index(2)]), None);
        assert_eq!(at(&[Step::Key("metadata"), Step::Key("namespace")]), None);
        assert_eq!(at(&[Step::Index(0)]), None);
    }
}
