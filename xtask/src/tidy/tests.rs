//! Each rule is fed what it has to refuse, and the nearest thing that it has to let pass.

use super::{
    Exception, Finding, Source, arrows, crates, cycles, excuse, functions, names, readme, size, text, tokens::Code,
};

fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

fn code(text: &str) -> Code {
    Code::parse(text).unwrap()
}

fn messages(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(|finding| format!("{} {}", finding.rule, finding.message)).collect()
}

/// Findings of `arrows` in a file of weave-ctl.
fn arrows(path: &str, text: &str) -> Vec<String> {
    messages(&arrows::check(&source(&format!("weave-ctl/src/{path}"), text), &code(text)))
}

#[test]
fn an_arrow_against_the_direction_is_found_however_it_is_written() {
    for text in [
        "use crate::shell::store;",
        "use crate::{proto::io, shell::{self, store::Store}};",
        "fn f() { crate::shell::store::open() }",
        "fn f() { go!(crate::shell::store::open()) }",
        "use super::shell;",
        "mod inner { use super::super::shell; }",
        "use weave_ctl::shell;",
    ] {
        let found = arrows("cli.rs", text);
        assert!(found.iter().any(|message| message.contains("`cli` must not name `shell`")), "{text}: {found:?}");
    }
    assert_eq!(arrows("proto/path/mod.rs", "use super::super::api::x;").len(), 1);
    assert_eq!(arrows("api/mod.rs", "use weave_common::addr::Mac;").len(), 1);
    let part = "use crate::proto::{status::Status, node::Node}; use crate::proto; use crate::proto::status_of;";
    assert_eq!(arrows("api/types.rs", part).len(), 3, "all but the one part");
    assert_eq!(arrows("lab.rs", "").len(), 1, "a new room has to be named");
}

#[test]
fn lawful_arrows_and_words_in_text_pass() {
    for (path, text) in [
        ("api/types.rs", "pub use crate::proto::status::*; use crate::proto::status;"),
        ("cli/attach.rs", "use crate::api::types; use crate::config::Config;"),
        ("shell/driver.rs", "use crate::{api, config, proto::{io, node}}; use weave_common::map;"),
        ("proto/name.rs", "use super::io::Target; use weave_common::addr::Mac;"),
        ("config.rs", "// crate::shell is not for us\nconst X: &str = \"crate::shell\"; use crate::proto::name;"),
        ("main.rs", "use weave_ctl::{cli, config};"),
        ("shell/links.rs", "mod inner { use super::frames; fn f() { super::frames::g() } }"),
    ] {
        assert_eq!(arrows(path, text), Vec::<String>::new(), "{path}");
    }
}

#[test]
fn effects_in_the_core_are_found() {
    for text in [
        "use std::time::Instant;",
        "use std::time::{Duration, SystemTime};",
        "use std::time::*;",
        "use std::{collections::{BTreeMap, HashMap}};",
        "use std::collections::hash_map::Entry;",
        "fn f() { let x = std::env::var(\"A\"); }",
        "fn f() { std::thread::sleep(d) }",
        "use std::net::{Ipv4Addr, UdpSocket};",
        "fn f() { rand::rng().next_u64() }",
        "async fn f() {}",
        "fn f() { println!(\"x\") }",
        "fn f() { tokio::spawn(x) }",
        "use std::fs;",
    ] {
        let found = arrows("proto/path/mod.rs", text);
        assert!(found.iter().any(|message| message.contains("`proto` is pure")), "{text}: {found:?}");
        assert_eq!(arrows("shell/links.rs", text), Vec::<String>::new(), "{text}");
    }
    for text in [
        "use std::time::Duration; use super::super::time::Instant;",
        "use std::{collections::BTreeMap, net::{Ipv4Addr, SocketAddr}};",
        "use rand::SeedableRng; struct Rng; fn f() -> Rng { Rng }",
        "/// Not a HashMap.\nfn print(environment: u8) {}",
    ] {
        assert_eq!(arrows("proto/path/mod.rs", text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn rooms_inside_the_core_meet_in_node_only() {
    assert_eq!(arrows("proto/ipam/ring.rs", "use super::super::path::Routes;").len(), 1);
    assert_eq!(arrows("proto/path/mod.rs", "use crate::proto::{io, ipam::Ring};").len(), 1);
    assert_eq!(arrows("proto/node.rs", "use super::{ipam, path};").len(), 0);
    assert_eq!(arrows("proto/ipam/ring.rs", "use super::space::Space;").len(), 0);
}

/// The circles among these files of weave-ctl.
fn circles(files: &[(&str, &str)]) -> Vec<String> {
    let module =
        |(path, text): &(&str, &str)| cycles::module(&source(&format!("weave-ctl/src/{path}"), text), &code(text));
    let modules: Vec<_> = files.iter().filter_map(module).collect();
    cycles::check(&modules).into_iter().map(|finding| format!("{}: {}", finding.place, finding.item)).collect()
}

#[test]
fn circles_of_imports_are_found_at_each_level() {
    let two = [("a.rs", "use crate::b::X;"), ("b/mod.rs", "mod c;"), ("b/c.rs", "use super::super::a;")];
    assert_eq!(circles(&two), ["weave-ctl/src/: a -> b -> a"]);
    let inner = [
        ("p.rs", ""),
        ("p/a.rs", "fn f() { super::b::g() }"),
        ("p/b.rs", "use super::c::X;"),
        ("p/c.rs", "use crate::p::a;"),
    ];
    assert_eq!(circles(&inner), ["weave-ctl/src/p: a -> b -> c -> a"]);
    let apart =
        [("a.rs", "use crate::b;"), ("b.rs", "use crate::a;"), ("c.rs", "use crate::d;"), ("d.rs", "use crate::c;")];
    assert_eq!(circles(&apart).len(), 2);
}

#[test]
fn a_module_and_its_inner_modules_are_one() {
    let nested =
        [("p.rs", "mod a; use self::a::X; struct Y;"), ("p/a.rs", "use super::Y;"), ("q.rs", "use crate::p::a;")];
    assert_eq!(circles(&nested), Vec::<String>::new());
    let one_way = [("a.rs", "use crate::{b, c};"), ("b.rs", "use crate::c;"), ("c.rs", "// crate::a is not named")];
    assert_eq!(circles(&one_way), Vec::<String>::new());
    let tests = [("a.rs", "use crate::b;"), ("b.rs", ""), ("b/tests.rs", "use crate::a;")];
    assert_eq!(circles(&tests), Vec::<String>::new());
}

#[test]
fn lines_of_the_core_are_counted_without_tests_and_others() {
    let text = "//! Head.\n\nfn f() {}\n";
    let count = |path: &str| size::lines(&[source(&format!("weave-ctl/src/{path}"), text)]);
    assert_eq!([count("proto/node.rs"), count("proto/path/mod.rs"), count("proto/io.rs")], [3, 3, 3]);
    let others =
        ["proto/path/tests.rs", "proto/node/tests/a.rs", "proto/fixture.rs", "proto/ipam/ring.rs", "shell/mod.rs"];
    assert_eq!(others.map(count), [0; 5]);
    assert_eq!(count("proto/endpoints.rs"), 0);
}

#[test]
fn long_functions_are_found_in_macros_too() {
    let body = "    x();\n".repeat(69);
    let long =
        format!("//! Head.\nmod m {{\nfn long(a: u8)\n{{\n{body}}}\nfn short() {{\n}}\ntrait T {{ fn none(); }}\n}}");
    let check = |text: &str| functions::check(&source("a.rs", text), &code(text));
    let found = check(&long);
    assert_eq!(messages(&found), ["functions `long` has 72 lines; at most 70"]);
    assert_eq!(found[0].place, "a.rs:3");
    assert_eq!(check(&format!("proptest! {{\n#[test]\nfn p(x in 0..3u8) {{\n{body}}}\n}}")).len(), 1);
    assert_eq!(check(&format!("fn fits() {{\n{}}}", "    x();\n".repeat(68))).len(), 0);
}

#[test]
fn files_need_a_head_and_a_size_and_ascii() {
    let check = |text: &str| messages(&text::check(&source("a.rs", text)));
    assert_eq!(check("//! What it is for.\nfn f() {}\n"), Vec::<String>::new());
    assert_eq!(check("fn f() {}\n").len(), 1);
    assert_eq!(check("//! s\n").len(), 1);
    assert_eq!(check(""), ["head starts without a `//!` head that says what it is for"]);
    assert_eq!(check(&format!("//! Long one.\n{}", "\n".repeat(500))), ["size 501 lines; at most 500"]);
    assert_eq!(check(&format!("//! Long one.\n{}", "\n".repeat(499))).len(), 0);
    assert_eq!(check("//! Two lines.\n// caf\u{e9}\n"), ["ascii `\u{e9}` is not ASCII"]);
    assert_eq!(messages(&text::check(&source("a.md", "\u{2192}"))).len(), 1);
}

#[test]
fn examples_that_nothing_runs_are_found() {
    let check = |path: &str, text: &str| messages(&text::check(&source(path, text)));
    let block =
        |kind: &str| format!("//! Long one.\n\n    /// ```{kind}\n    /// let a = 1;\n    /// ```\nfn f() {{}}\n");
    assert_eq!(check("a.rs", &block("text")), Vec::<String>::new());
    for kind in ["", "rust", "no_run"] {
        let found = check("a.rs", &block(kind));
        assert!(matches!(&found[..], [one] if one.starts_with("examples ")), "{found:?}");
    }
    assert_eq!(check("a.md", &block("")), Vec::<String>::new());
}

#[test]
fn dates_machine_folders_and_loose_ends_are_found() {
    let check = |line: &str| text::check(&source("a.md", line)).len();
    assert_eq!(check(concat!("since 2031", "-05-06.")), 1);
    assert_eq!(check("2031-05 and 12031-5-06"), 0);
    assert_eq!(check(concat!("see /ho", "me/someone")), 1);
    assert_eq!(check("see /sys/fs/bpf/weave"), 0);
    assert_eq!(check(concat!("TO", "DO later")), 1);
    assert_eq!(check(concat!("TO", "DO-security: later")), 0);
}

#[test]
fn names_for_the_kernel_are_short_and_ours() {
    let check = |path: &str, text: &str| names::check(&source(path, text), &code(text));
    let map = |name: &str| check("weave-common/src/map.rs", &format!("pub const A: &str = \"{name}\";"));
    assert_eq!(map("weave_endpoints").len(), 0);
    assert_eq!(messages(&map("weave_endpoints2")), ["names `weave_endpoints2` has 16 characters; the kernel keeps 15"]);
    assert_eq!(map("routes").len(), 1);
    let ebpf = |text: &str| check("weave-ebpf/src/maps.rs", text).len();
    assert_eq!(ebpf("#[btf_map]\npub static weave_routes: A = A::new();"), 0);
    assert_eq!(ebpf("#[btf_map]\nstatic ROUTES: A = A::new();"), 1);
    assert_eq!(ebpf("#[map(name = \"weave_routes\")]\nstatic ROUTES: A = A::new();"), 0);
    assert_eq!(ebpf("mod m { #[map(name = \"routes\")] static mut ROUTES: A = A::new(); }"), 1);
    assert_eq!(ebpf("#[classifier]\npub fn weave_container_egress(c: C) -> i32 { 0 }"), 1);
    assert_eq!(ebpf("#[classifier]\npub fn weave_container(c: C) -> i32 { 0 } fn try_it() {} static X: u8 = 0;"), 0);
}

#[test]
fn numbers_and_texts_are_used_once() {
    let check = |rows: &str| {
        let text = format!("macro_rules! reasons {{ ($n:ident = $v:literal) => {{ a }}; }}\nreasons! {{ {rows} }}");
        messages(&names::check(&source("weave-common/src/drop.rs", &text), &code(&text)))
    };
    assert_eq!(check("/// A.\nA = 0, \"a\"; B = 2, \"b\";"), Vec::<String>::new());
    assert_eq!(check("A = 0, \"a\"; B = 0, \"b\";"), ["numbers `B`: number 0 is taken"]);
    assert_eq!(check("A = 0, \"a\"; B = 1, \"a\";"), ["numbers `B`: text \"a\" is taken"]);
    assert_eq!(check("").len(), 1, "a table that is not found is not a table without faults");
}

#[test]
fn crates_take_the_lints_over_and_keep_the_direction() {
    let manifest = |path: &str, text: &str| crates::manifest(&source(path, text)).len();
    assert_eq!(manifest("a/Cargo.toml", "[package]\n[lints]\nworkspace = true\n"), 0);
    assert_eq!(manifest("a/Cargo.toml", "[package]\n[lints]\n[dependencies]\nworkspace = true\n"), 1);
    assert_eq!(manifest("a/Cargo.toml", "[package]\n"), 1);
    assert_eq!(manifest("Cargo.toml", "[workspace]\n"), 0);
    let graph = |name: &str, on: &str, kind: &str| {
        let text = format!(r#"{{"packages":[{{"name":"{name}","dependencies":[{{"name":"{on}","kind":{kind}}}]}}]}}"#);
        crates::graph(&text).unwrap().len()
    };
    assert_eq!(graph("weave-ctl", "weave-common", "null"), 0);
    assert_eq!(graph("weave-ctl", "weave-tests", "\"dev\""), 1);
    assert_eq!(graph("xtask", "weave-ctl", "null"), 1);
    assert_eq!(graph("weave-common", "serde", "null"), 1);
    assert_eq!(graph("weave-common", "proptest", "\"dev\""), 0);
    assert_eq!(graph("newcomer", "serde", "null"), 1);
    assert!(crates::graph("{}").is_err());
}

#[test]
fn invariants_name_guards_that_exist() {
    let tests = vec!["one_seed_one_trace".to_owned()];
    let check = |section: &str| {
        let text = format!("# A\n## Invariants\n\n{section}\n## After\n1. not an invariant\n");
        messages(&readme::check(&source("README.md", &text), &tests))
    };
    assert_eq!(
        check("1. It is so.\n   Checked by: `world::one_seed_one_trace`, `tidy: arrows`."),
        Vec::<String>::new()
    );
    assert_eq!(check("1. It is so. Checked by: `gone`."), ["readme invariant 1 names `gone`, which is no test"]);
    assert_eq!(check("1. It is so. Checked by: `tidy: beauty`.").len(), 1);
    assert_eq!(check("1. It is so.").len(), 1);
    assert_eq!(check("1. It is so. Checked by: nobody.").len(), 1);
    assert_eq!(check("2. It is so. Checked by: `tidy: arrows`.").len(), 1);
    assert_eq!(check("").len(), 1);
}

#[test]
fn an_exception_excuses_its_finding_and_nothing_else() {
    let finding = |item: &str| Finding {
        rule: "functions",
        place: "a.rs:3".to_owned(),
        item: item.to_owned(),
        message: "long".to_owned(),
    };
    let exception = Exception { rule: "functions", file: "a.rs", item: "long", why: "a table" };
    assert_eq!(excuse(vec![finding("long"), finding("other")], &[exception]), [finding("other")]);
    let stale = Exception { rule: "functions", file: "a.rs", item: "gone", why: "a table" };
    let left = excuse(Vec::new(), &[stale]);
    assert_eq!(left.len(), 1);
    assert!(left[0].message.contains("excuses nothing"), "{left:?}");
}
