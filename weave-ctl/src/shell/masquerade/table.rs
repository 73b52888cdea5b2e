//! The table of nftables that translates addresses. All of it is ours: it is replaced as a whole, in one transaction.
//!
//! `postrouting` masquerades what containers send out of the network. `forward` keeps the outside from opening connections
//! to containers, which the dataplane cannot tell from answers; connections that the host redirected to a container by a
//! rule of the operator (DNAT) may pass. Whether the table is right is told by its chains and by the comments of its rules,
//! not by their expressions, which versions of `nft` show in different forms.

use ipnet::Ipv4Net;
use nftables::{
    batch::Batch,
    expr::{CT, Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix},
    schema::{Chain, NfListObject, Rule, Table},
    stmt::{Match, Operator, Statement},
    types::{NfChainPolicy, NfChainType, NfFamily, NfHook},
};
use serde_json::Value;

use super::{MasqueradeError, run};

/// Its name, in the family `ip`.
pub(super) const NAME: &str = "weave_ctl";
const POSTROUTING: &str = "postrouting";
const FORWARD: &str = "forward";
/// Where others translate source addresses too (`srcnat`), and where they filter (`filter`).
const PRIORITIES: [(&str, NfChainType, NfHook, i32); 2] =
    [(POSTROUTING, NfChainType::NAT, NfHook::Postrouting, 100), (FORWARD, NfChainType::Filter, NfHook::Forward, 0)];
/// What the kernel needs.
const PARTS: &str = "the kernel needs nf_tables with NAT, masquerade and conntrack (modules nf_tables, nft_chain_nat, \
                     nft_masq, nft_ct); load or install them and repeat the command";

/// A rule, and the comment by which it is known.
struct Wanted {
    chain: &'static str,
    comment: String,
    statements: Vec<Statement<'static>>,
}

fn wanted(range: Ipv4Net, ifname: &str) -> Vec<Wanted> {
    let meta = |key, op| is(NamedExpression::Meta(Meta { key }), op, text(ifname));
    let out = |op| meta(MetaKey::Oifname, op);
    let field = |field: &'static str, op| {
        let payload = PayloadField { protocol: "ip".into(), field: field.into() };
        is(NamedExpression::Payload(Payload::PayloadField(payload)), op, net(range))
    };
    let ct = |key: &'static str, states: Vec<Expression<'static>>| {
        let right = Expression::List(states);
        is(NamedExpression::CT(CT { key: key.into(), family: None, dir: None }), Operator::IN, right)
    };
    let accept = || Statement::Accept(None);
    let rule = |chain, comment: String, statements| Wanted { chain, comment, statements };
    vec![
        rule(
            POSTROUTING,
            format!("masquerade from {range} to elsewhere, not to {ifname}"),
            vec![
                field("saddr", Operator::EQ),
                field("daddr", Operator::NEQ),
                out(Operator::NEQ),
                Statement::Masquerade(None),
            ],
        ),
        rule(
            FORWARD,
            format!("answers to {ifname}"),
            vec![out(Operator::EQ), ct("state", vec![text("established"), text("related")]), accept()],
        ),
        rule(
            FORWARD,
            format!("redirected to {ifname}"),
            vec![out(Operator::EQ), ct("status", vec![text("dnat")]), accept()],
        ),
        rule(FORWARD, format!("nothing else to {ifname}"), vec![out(Operator::EQ), Statement::Drop(None)]),
    ]
}

fn is(left: NamedExpression<'static>, op: Operator, right: Expression<'static>) -> Statement<'static> {
    Statement::Match(Match { left: Expression::Named(left), right, op })
}

fn text(value: &str) -> Expression<'static> {
    Expression::String(value.to_owned().into())
}

fn net(range: Ipv4Net) -> Expression<'static> {
    let addr = Box::new(text(&range.network().to_string()));
    Expression::Named(NamedExpression::Prefix(Prefix { addr, len: u32::from(range.prefix_len()) }))
}

fn this_table() -> NfListObject<'static> {
    NfListObject::Table(Table { family: NfFamily::IP, name: NAME.into(), handle: None })
}

/// Adding it first makes the removal succeed also when there is none.
fn without() -> Batch<'static> {
    let mut batch = Batch::new();
    batch.add(this_table());
    batch.delete(this_table());
    batch
}

fn replaced(wanted: Vec<Wanted>) -> Batch<'static> {
    let mut batch = without();
    batch.add(this_table());
    for (name, kind, hook, priority) in PRIORITIES {
        batch.add(NfListObject::Chain(Chain {
            family: NfFamily::IP,
            table: NAME.into(),
            name: name.into(),
            newname: None,
            handle: None,
            _type: Some(kind),
            hook: Some(hook),
            prio: Some(priority),
            dev: None,
            policy: Some(NfChainPolicy::Accept),
        }));
    }
    for Wanted { chain, comment, statements } in wanted {
        batch.add(NfListObject::Rule(Rule {
            family: NfFamily::IP,
            table: NAME.into(),
            chain: chain.into(),
            expr: statements.into(),
            comment: Some(comment.into()),
            ..Rule::default()
        }));
    }
    batch
}

/// Makes the table be right; false when it was.
pub(super) fn ensure(range: Ipv4Net, ifname: &str) -> Result<bool, MasqueradeError> {
    let wanted = wanted(range, ifname);
    if found()?.is_some_and(|found| found == described(&wanted)) {
        return Ok(false);
    }
    apply("write the rules of --masquerade", replaced(wanted))?;
    Ok(true)
}

/// Removes the table; false when there was none.
pub(super) fn remove() -> Result<bool, MasqueradeError> {
    let there = found()?.is_some();
    if there {
        apply("remove the rules of --masquerade", without())?;
    }
    Ok(there)
}

/// Chains and rules, each in one line.
fn described(wanted: &[Wanted]) -> Vec<String> {
    let chain = |(name, kind, hook, priority): &(&str, NfChainType, NfHook, i32)| {
        let [kind, hook] = [serde_json::json!(kind), serde_json::json!(hook)];
        line(&[&(*name).into(), &kind, &hook, &(*priority).into(), &"accept".into()])
    };
    let rule = |rule: &Wanted| line(&[&rule.chain.into(), &rule.comment.clone().into()]);
    PRIORITIES.iter().map(chain).chain(wanted.iter().map(rule)).collect()
}

fn line(parts: &[&Value]) -> String {
    parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// The same of the table that is there.
fn found() -> Result<Option<Vec<String>>, MasqueradeError> {
    let Some(listed) = list(&["table", "ip", NAME])? else { return Ok(None) };
    let describe = |object: &Value| {
        let part =
            |of: &str, keys: &[&str]| object.get(of).map(|it| line(&keys.iter().map(|k| &it[*k]).collect::<Vec<_>>()));
        part("chain", &["name", "type", "hook", "prio", "policy"]).or_else(|| part("rule", &["chain", "comment"]))
    };
    let all: Vec<String> = listed.iter().filter_map(describe).collect();
    Ok(Some(all))
}

/// What `nft list` shows; `None` when there is no such thing.
pub(super) fn list(what: &[&str]) -> Result<Option<Vec<Value>>, MasqueradeError> {
    const WHAT: &str = "list the rules of nftables";
    let refused = |said: String| MasqueradeError::Refused { what: WHAT, said };
    let ran = run("nft", &[&["-j", "list"], what].concat(), "").map_err(|e| refused(e.to_string()))?;
    let ran = ran.ok_or(MasqueradeError::NoNft)?;
    if !ran.done && ran.stderr.contains("No such file or directory") {
        return Ok(None);
    }
    if !ran.done {
        return Err(refused(format!("{}; {PARTS}", ran.stderr)));
    }
    let mut shown: Value =
        serde_json::from_str(&ran.stdout).map_err(|e| refused(format!("nft does not answer in JSON: {e}")))?;
    match shown["nftables"].take() {
        Value::Array(objects) => Ok(Some(objects)),
        _ => Err(refused("nft answers in another form than expected".to_owned())),
    }
}

fn apply(what: &'static str, batch: Batch<'_>) -> Result<(), MasqueradeError> {
    let refused = |said: String| MasqueradeError::Refused { what, said };
    let input = serde_json::to_string(&batch.to_nftables()).map_err(|e| refused(e.to_string()))?;
    let ran = run("nft", &["-j", "-f", "-"], &input).map_err(|e| refused(e.to_string()))?;
    let ran = ran.ok_or(MasqueradeError::NoNft)?;
    if ran.done { Ok(()) } else { Err(refused(format!("{}; {PARTS}", ran.stderr))) }
}
