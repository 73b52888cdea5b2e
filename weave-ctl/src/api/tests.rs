//! `docs/api.md` is what the code says.

use std::{collections::BTreeMap, env, fmt::Write as _, fs, path::Path};

use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::Value;

use super::{API, REQUESTS, SOCKET, types};

/// Set to write the page anew.
const WRITE: &str = "WEAVE_WRITE_DOCS";

/// Every type of a request or answer, and what is in them, by name.
fn all_types() -> BTreeMap<String, Value> {
    let mut generator = SchemaGenerator::new(SchemaSettings::draft2020_12());
    macro_rules! add {
        ($($name:ident),*) => { $(generator.subschema_for::<types::$name>();)* };
    }
    add!(
        Reserve,
        Bind,
        Attach,
        Detach,
        Release,
        Released,
        ReleasedOwner,
        Expose,
        Hide,
        ContainerStatus,
        Connect,
        Forget,
        Targets
    );
    add!(NameChange, NameStatus, Lookup);
    add!(Consensus, RemovePeer, RemovedPeer, Status, Report, Stop, Reset, Done, Error);
    generator.take_definitions(true).into_iter().collect()
}

/// The type of a field, as people write it.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        return reference.rsplit('/').next().unwrap_or(reference).to_owned();
    }
    if let Some(any) = schema["anyOf"].as_array() {
        return any.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    match &schema["type"] {
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        Value::String(one) if one == "array" => format!("list of {}", kind(&schema["items"])),
        Value::String(one) => one.clone(),
        other => panic!("a type without a name: {other} in {schema}"),
    }
}

fn one_line(text: &Value) -> String {
    text.as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn fields(text: &mut String, schema: &Value) {
    let Some(properties) = schema["properties"].as_object().filter(|all| !all.is_empty()) else { return };
    writeln!(text, "\n| field | type | meaning |\n|---|---|---|").unwrap();
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in properties {
        let may = if required.contains(&name.as_str()) { "" } else { ", may be left out" };
        let meaning = if let Some(constant) = field["const"].as_str() {
            format!("`{constant}`")
        } else {
            one_line(&field["description"])
        };
        let kind = if field["const"].is_string() { "string".to_owned() } else { kind(field) };
        writeln!(text, "| `{name}` | {kind}{may} | {meaning} |").unwrap();
    }
}

fn page() -> String {
    let mut text = format!(
        "# The API of a controller\n\nHTTP and JSON on the unix socket `{SOCKET}` in the run directory, which root alone can open. \
         Paths start with `/v{API}/`; within a version, fields are only added. Names, networks and addresses are strings as people \
         write them. This page is made of the code by a test; `{WRITE}=1 cargo test -p weave-ctl api_page` writes it anew.\n\n\
         Statuses: 200 done; 400 and 413 a request that no version of this command sends; 409 refused, nothing was changed; 503 the \
         controller is stopping; 504 it gave no answer in time and the request was withdrawn. Every status but 200 has an `Error` \
         as its body.\n\nThe same request again is answered alike and changes nothing: an engine whose answer was lost asks \
         again. Only `reserve` without an owner holds other addresses each time.\n\n| request | body | answer | what it does |\n\
         |---|---|---|---|\n"
    );
    let link = |name: &str| if name.is_empty() { "-".to_owned() } else { format!("`{name}`") };
    for one in REQUESTS {
        let (body, answer) = (link(one.body), link(one.answer));
        writeln!(text, "| `{} /v{API}/{}` | {body} | {answer} | {} |", one.method, one.name, one.does).unwrap();
    }
    for (name, schema) in all_types() {
        writeln!(text, "\n## {name}\n\n{}", one_line(&schema["description"])).unwrap();
        fields(&mut text, &schema);
        for variant in schema["oneOf"].as_array().into_iter().flatten() {
            let constant = variant["const"].as_str().map(|value| format!("`{value}`: ")).unwrap_or_default();
            writeln!(text, "\n{constant}{}", one_line(&variant["description"])).unwrap();
            fields(&mut text, variant);
        }
    }
    text
}

#[test]
fn api_page_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    let page = page();
    if env::var_os(WRITE).is_some() {
        fs::write(&path, &page).expect("the page is written");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/api.md is not what the code says: write it anew with {WRITE}=1");
}

#[test]
fn every_request_is_served_and_described() {
    let source = include_str!("../shell/control/handlers.rs");
    let served = source.split(".route(\"/v1/").skip(1).filter_map(|rest| rest.split_once("\", "));
    let served: Vec<(String, &str)> =
        served.map(|(name, rest)| (name.to_owned(), if rest.starts_with("get") { "GET" } else { "POST" })).collect();
    let mut described: Vec<(String, &str)> = REQUESTS.iter().map(|one| (one.name.to_owned(), one.method)).collect();
    let mut served = served;
    served.sort();
    described.sort();
    assert_eq!(served, described);
    let types = all_types();
    for one in REQUESTS {
        for name in [one.body, one.answer.trim_matches(['[', ']'])] {
            assert!(name.is_empty() || types.contains_key(name), "{name} is not described");
        }
    }
}
