//! Reading manifests: what comes out, and what is said of what does not.

use meshrelay_cluster::{MAX_FILE_BYTES, Notation, parse_manifest};
use meshrelay_snapshot::to_yaml;
use proptest::prelude::*;
use serde_json::{Value, json};

const GOOD: &str = "apiVersion: v1\nkind: Service\nmetadata:\n  name: good\n";

fn problems(text: &str) -> Vec<String> {
    let documents = parse_manifest(text.as_bytes(), Notation::Yaml);
    documents.into_iter().filter_map(|document| document.content.err()).map(|problem| problem.to_string()).collect()
}

fn names(bytes: &[u8], notation: Notation) -> Vec<String> {
    let documents = parse_manifest(bytes, notation);
    let name = |value: Value| value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    documents.into_iter().filter_map(|document| document.content.ok()).map(name).collect()
}

#[test]
fn each_problem_is_told_with_its_place_and_what_was_expected() {
    let service = |rest: &str| format!("apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n{rest}");
    let cases = [
        (
            "apiVersion: v1\nkind Service\nmetadata: {name: a}\n".to_owned(),
            "2:1: expected `key: value`, found `kind Service` (MR0410)",
        ),
        (service("spec:\n\tports: []\n"), "6:2: expected spaces for indentation, not tabs, found `ports: []` (MR0410)"),
        (
            service("spec:\n  ports: []\n   type: X\n"),
            "7:4: expected a key at the indentation of its neighbours, found `type: X` (MR0410)",
        ),
        (service("spec: [1, 2\nx: 1\n"), "6:2: expected a closing bracket before the next key, found `x: 1` (MR0410)"),
        (service("spec: \"open\n"), "5:7: expected a closing quote, found `spec: \"open` (MR0410)"),
        (
            service("spec: *ports\n"),
            "5:7: expected an anchor that is defined above in the same document, found `spec: *ports` (MR0410)",
        ),
        (
            service("spec: {a: 1, a: 2}\n"),
            "5:14: expected each key once in a mapping, found `a` a second time (MR0410)",
        ),
        (
            service("spec: {{ .Values.spec }}\n"),
            "5:8: expected plain YAML (render templates first), found `spec: {{ .Values.spec }}` (MR0410)",
        ),
        (
            "just text\n".to_owned(),
            "1:1: expected a Kubernetes object (apiVersion, kind, metadata), found \"just text\" (MR0411)",
        ),
        ("# note\nkind: Service\nmetadata: {name: a}\n".to_owned(), "2:1: expected apiVersion, found nothing (MR0411)"),
        ("apiVersion: v1\nkind: [Service]\n".to_owned(), "2:7: expected text in kind, found a list (MR0411)"),
        ("apiVersion: v1\nkind: Service\n".to_owned(), "1:1: expected metadata with a name, found nothing (MR0411)"),
        (
            "apiVersion: v1\nkind: Service\nmetadata:\n  generateName: a\n".to_owned(),
            "4:3: expected metadata.name, found nothing (MR0411)",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: a/b\n".to_owned(),
            "4:9: expected a name of at most 253 characters without \"/\" and \"%\", found \"a/b\" (MR0411)",
        ),
        (
            service("  namespace: Shop\n"),
            "5:14: expected a namespace of lower-case letters, digits and hyphens in metadata.namespace, found \
             \"Shop\" (MR0411)",
        ),
        (
            service("  labels:\n    version: 1\n"),
            "6:14: expected text in metadata.labels[\"version\"] (put it in quotes), found the number 1 (MR0411)",
        ),
        (service("  annotations: [a]\n"), "5:16: expected a mapping in metadata.annotations, found a list (MR0411)"),
        (
            service("  creationTimestamp: today\n"),
            "5:22: expected a time like 2026-01-31T12:00:00Z in metadata.creationTimestamp, found \"today\" (MR0411)",
        ),
        (service("  generation: '1'\n"), "5:15: expected an integer in metadata.generation, found \"1\" (MR0411)"),
        (
            "apiVersion: v1\nkind: List\nitems: {}\n".to_owned(),
            "3:8: expected a list of objects in items, found a mapping (MR0411)",
        ),
        (
            "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, metadata: {name: a}}\n- kind: Pod\n"
                .to_owned(),
            "5:3: expected apiVersion, found nothing (MR0411)",
        ),
        (format!("a: {}1{}", "[".repeat(46), "]".repeat(46)), "1:1: expected apiVersion, found nothing (MR0411)"),
    ];
    for (bad, expected) in &cases {
        assert_eq!(problems(bad), [*expected], "in {bad}");
        // The same between two good neighbours.
        let shifted = format!("{GOOD}---\n{bad}\n---\n{GOOD}");
        let (line, rest) = expected.split_once(':').unwrap();
        let line: usize = line.parse().unwrap();
        assert_eq!(problems(&shifted), [format!("{}:{rest}", line + 5)], "in {shifted}");
        assert!(names(shifted.as_bytes(), Notation::Yaml).len() >= 2, "neighbours are lost in {shifted}");
    }
}

#[test]
fn bombs_and_giants_are_refused() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let previous = format!("*a{}, ", level - 1).repeat(10);
        bomb += &format!("a{level}: &a{level} [{previous}]\n");
    }
    for text in [bomb, format!("a: {}", "[".repeat(200_000)), "- ".repeat(200_000), "{a: ".repeat(5_000)] {
        let documents = parse_manifest(text.as_bytes(), Notation::Yaml);
        let problem = documents[0].content.as_ref().unwrap_err();
        assert_eq!(problem.code, "MR0412", "{problem}");
    }
    let giant = vec![b'#'; MAX_FILE_BYTES + 1];
    let problem = parse_manifest(&giant, Notation::Yaml).remove(0).content.unwrap_err();
    assert_eq!(problem.to_string(), "1:1: expected a file of at most 10 MiB, found more: split the file (MR0412)");
    let endless = "---\nx\n".repeat(100_000);
    assert!(parse_manifest(endless.as_bytes(), Notation::Yaml).len() < 100, "problems are not listed without end");
    let documents = format!("---\n{GOOD}").repeat(20_001);
    let documents = parse_manifest(documents.as_bytes(), Notation::Yaml);
    assert_eq!(documents.last().unwrap().content.as_ref().unwrap_err().code, "MR0412");
}

#[test]
fn text_that_is_not_utf8_is_told_with_its_place() {
    let problem = parse_manifest(b"a: 1\nb: \xff", Notation::Yaml).remove(0).content.unwrap_err();
    assert_eq!(problem.to_string(), "2:4: expected UTF-8 text, found a byte that is not UTF-8 (MR0410)");
}

#[test]
fn lists_streams_and_json_come_out_as_single_objects() {
    let list = format!(
        "# all\n---\n---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  \
         metadata:\n    name: one\n- apiVersion: v1\n  kind: Pod\n  metadata: {{name: two}}\n---\n{GOOD}...\n"
    );
    assert_eq!(names(list.as_bytes(), Notation::Yaml), ["one", "two", "good"]);
    let lines: Vec<_> =
        parse_manifest(list.as_bytes(), Notation::Yaml).iter().map(|document| document.first_line).collect();
    assert_eq!(lines, [7, 11, 15]);
    let empty = "kind: List\napiVersion: v1\nitems:\n";
    assert_eq!(names(format!("\u{feff}{GOOD}---\r\n{empty}").as_bytes(), Notation::Yaml), ["good"]);

    let one = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "one"}});
    let list = json!({"apiVersion": "v1", "kind": "ServiceList", "items": [one]});
    let text = format!("{one}\n\t{list:#}");
    assert_eq!(names(text.as_bytes(), Notation::Json), ["one", "one"]);
    let problem = parse_manifest(format!("{one}\n{{\"a\" 1}}").as_bytes(), Notation::Json).remove(1);
    assert_eq!(problem.content.unwrap_err().to_string(), "2:6: expected valid JSON, found expected `:` (MR0410)");
}

/// Every file of the fuzz target's corpus, so that what once was a crash stays a test.
#[test]
fn the_corpus_of_the_fuzz_target_is_read_without_a_panic() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/yaml_load");
    let mut files = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for notation in [Notation::Yaml, Notation::Json] {
            for document in parse_manifest(&bytes, notation) {
                assert!(document.first_line <= document.last_line);
                if let Err(problem) = document.content {
                    assert!(problem.line >= document.first_line || problem.code == "MR0410", "{problem}");
                }
            }
        }
        files += 1;
    }
    assert!(files > 10, "the corpus is there");
}

fn values() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[a-z0-9]{0,8}",
        "[-+_.0-9xobeEy~nN]{1,6}",
        any::<String>(),
        "[ \\t:#\\-?*&!|>'\"%@`{}\\[\\],\n]{0,6}",
        "(yes|no|on|off|null|true|False|0644|1e3|0x1F|---|\\.inf|\\.NaN|=|<<|y|n|2026-01-01|12:30:45)",
    ];
    let scalar = prop_oneof![
        text.clone().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        (-1.0e9..1.0e9)
            .prop_filter("whole numbers become integers", |float: &f64| float.fract() != 0.0)
            .prop_map(Value::from),
    ];
    scalar.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map(text.clone(), inner, 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(spec in values()) {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "spec": spec});
        let text = to_yaml(&object);
        let read = parse_manifest(text.as_bytes(), Notation::Yaml);
        prop_assert_eq!(read.len(), 1, "{}", text);
        prop_assert_eq!(read[0].content.as_ref(), Ok(&object), "{}", text);
    }

    #[test]
    fn no_text_is_too_strange(text in any::<String>(), cut in 0_usize..200) {
        parse_manifest(text.as_bytes(), Notation::Yaml);
        let long = format!("{GOOD}spec: &a {{x: [1, 'b', \"c\"], y: |\n  z}}\n---\n<<: *a\n{text}");
        parse_manifest(&long.as_bytes()[..cut.min(long.len())], Notation::Yaml);
        parse_manifest(long.as_bytes(), Notation::Json);
    }
}
