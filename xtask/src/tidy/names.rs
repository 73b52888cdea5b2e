//! Rules `names` and `numbers`: what the kernel is told, and what is numbered for ever.
//!
//! Names of maps and programs have at most [`NAME_MAX`] characters (the kernel cuts longer ones) and start with
//! [`PREFIX`]. Numbers and texts of drop reasons and counters are used once.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::{Finding, Source, tokens::Code};

/// `BPF_OBJ_NAME_LEN` less the NUL.
const NAME_MAX: usize = 15;
const PREFIX: &str = "weave_";
/// Where names are written that both sides use.
const NAMES: &str = "weave-common/src/map.rs";
/// Files with a table `Name = number, "text";`.
const TABLES: [&str; 2] = ["weave-common/src/drop.rs", "weave-common/src/counters.rs"];
/// Attributes that make a static a map, or a function a program.
const MAKERS: [&str; 6] = ["map", "btf_map", "classifier", "xdp", "tracepoint", "fentry"];

pub(super) fn check(source: &Source, code: &Code) -> Vec<Finding> {
    let mut findings = Vec::new();
    if source.path == NAMES {
        for name in code.stream.clone().into_iter().filter_map(|token| string(&token)) {
            findings.extend(name_finding(source, &name));
        }
    }
    if source.path.starts_with("weave-ebpf/src/") {
        let mut names = Vec::new();
        made(code.stream.clone(), &mut names);
        findings.extend(names.iter().filter_map(|name| name_finding(source, name)));
    }
    if TABLES.contains(&source.path.as_str()) {
        findings.extend(table(source, code.stream.clone()));
    }
    findings
}

fn name_finding(source: &Source, name: &str) -> Option<Finding> {
    let message = if name.len() > NAME_MAX {
        format!("`{name}` has {} characters; the kernel keeps {NAME_MAX}", name.len())
    } else if name.starts_with(PREFIX) {
        return None;
    } else {
        format!("`{name}` does not start with `{PREFIX}`")
    };
    Some(Finding { rule: "names", place: source.path.clone(), item: name.to_owned(), message })
}

/// Maps and programs: `#[map] static NAME` and `#[xdp] fn name`; `name = "..."` in the attribute goes first.
fn made(stream: TokenStream, names: &mut Vec<String>) {
    let mut attribute: Option<Vec<TokenTree>> = None;
    let mut previous = String::new();
    for token in stream {
        if let TokenTree::Group(group) = &token {
            let inner: Vec<TokenTree> = group.stream().into_iter().collect();
            let maker = inner.first().is_some_and(|first| MAKERS.contains(&first.to_string().as_str()));
            if group.delimiter() == Delimiter::Bracket && previous == "#" && maker {
                attribute = Some(inner);
            } else if group.delimiter() == Delimiter::Brace {
                made(group.stream(), names);
            }
        }
        let word = token.to_string();
        if (previous == "static" || previous == "fn")
            && let Some(attribute) = attribute.take()
        {
            names.push(given_name(attribute).unwrap_or(word.clone()));
        }
        if word != "mut" {
            previous = word;
        }
    }
}

/// `name = "..."` among an attribute's arguments.
fn given_name(attribute: Vec<TokenTree>) -> Option<String> {
    let TokenTree::Group(arguments) = attribute.get(1)? else { return None };
    let tokens: Vec<TokenTree> = arguments.stream().into_iter().collect();
    let at = tokens.iter().position(|token| token.to_string() == "name")?;
    string(tokens.get(at + 2)?)
}

/// The table is the last braced group of the file.
fn table(source: &Source, stream: TokenStream) -> Vec<Finding> {
    let finding =
        |message: String| Finding { rule: "numbers", place: source.path.clone(), item: String::new(), message };
    let is_table = |token: &TokenTree| matches!(token, TokenTree::Group(group) if rows(group.stream()).len() > 1);
    let tables: Vec<TokenTree> = stream.into_iter().filter(is_table).collect();
    let [TokenTree::Group(group)] = &tables[..] else {
        return vec![finding(format!("has {} tables `Name = number, \"text\";`, not one", tables.len()))];
    };
    let (mut numbers, mut texts) = (BTreeSet::new(), BTreeSet::new());
    let mut findings = Vec::new();
    for (name, number, text) in rows(group.stream()) {
        if !numbers.insert(number.clone()) {
            findings.push(finding(format!("`{name}`: number {number} is taken")));
        }
        if !texts.insert(text.clone()) {
            findings.push(finding(format!("`{name}`: text {text} is taken")));
        }
    }
    findings
}

/// `Name = number, "text"`.
fn rows(stream: TokenStream) -> Vec<(String, String, String)> {
    let words: Vec<String> = stream.into_iter().map(|token| token.to_string()).collect();
    let row = |window: &[String]| match window {
        [name, is, number, comma, text]
            if is == "=" && comma == "," && text.starts_with('"') && number.parse::<u32>().is_ok() =>
        {
            Some((name.clone(), number.clone(), text.clone()))
        }
        _ => None,
    };
    words.windows(5).filter_map(row).collect()
}

/// The contents of a plain string literal.
fn string(token: &TokenTree) -> Option<String> {
    let TokenTree::Literal(literal) = token else { return None };
    Some(literal.to_string().strip_prefix('"')?.strip_suffix('"')?.to_owned())
}
