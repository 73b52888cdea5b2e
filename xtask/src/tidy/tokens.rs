//! What the rules need to know of Rust sources: paths and functions, with lines, from proc-macro2's tokens.
//!
//! Tokens rather than a syntax tree, because bodies of macros (`proptest!`, `select!`) count as well. Text in comments
//! and strings is never taken for code.

use std::str::FromStr as _;

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// `a::b::c` as written, also each branch of a `use` tree; a single word is a path of one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
    /// Modules written out in this file around it.
    pub(super) depth: usize,
    /// Followed by `!`.
    pub(super) is_macro: bool,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) lines: usize,
}

/// A file.
pub(super) struct Code {
    pub(super) paths: Vec<Path>,
    pub(super) functions: Vec<Function>,
    pub(super) stream: TokenStream,
}

impl Code {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let stream = TokenStream::from_str(text).map_err(|error| anyhow!("{error}"))?;
        let mut code = Self { paths: Vec::new(), functions: Vec::new(), stream: stream.clone() };
        code.walk(stream, &[], 0);
        Ok(code)
    }

    /// `prefix` is what a `use` tree has before this group.
    fn walk(&mut self, stream: TokenStream, prefix: &[String], depth: usize) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            match token {
                TokenTree::Ident(_) => at = self.path(&tokens, at, prefix, depth),
                TokenTree::Group(group) => {
                    let inner = depth + usize::from(is_module(&tokens, at));
                    self.walk(group.stream(), &[], inner);
                    at += 1;
                }
                _ => at += 1,
            }
        }
    }

    /// Reads the path that starts at `at`; gives the position behind it.
    fn path(&mut self, tokens: &[TokenTree], mut at: usize, prefix: &[String], depth: usize) -> usize {
        let line = tokens[at].span().start().line;
        let mut segments = prefix.to_vec();
        segments.push(tokens[at].to_string());
        if segments == ["fn"] {
            self.function(tokens, at);
        }
        at += 1;
        while is_colons(tokens, at) {
            match tokens.get(at + 2) {
                Some(TokenTree::Ident(ident)) => segments.push(ident.to_string()),
                Some(TokenTree::Punct(star)) if star.as_char() == '*' => segments.push("*".to_owned()),
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    self.walk(group.stream(), &segments, depth);
                    return at + 3;
                }
                _ => break,
            }
            at += 3;
        }
        let is_macro = matches!(tokens.get(at), Some(TokenTree::Punct(bang)) if bang.as_char() == '!');
        self.paths.push(Path { segments, line, depth, is_macro });
        at
    }

    /// Records the function whose `fn` is at `at`; its body is the first braced group before a semicolon.
    fn function(&mut self, tokens: &[TokenTree], at: usize) {
        let Some(TokenTree::Ident(name)) = tokens.get(at + 1) else { return };
        let line = tokens[at].span().start().line;
        for token in &tokens[at + 2..] {
            match token {
                TokenTree::Punct(end) if end.as_char() == ';' => return,
                TokenTree::Group(body) if body.delimiter() == Delimiter::Brace => {
                    let lines = last_line(body) + 1 - line;
                    self.functions.push(Function { name: name.to_string(), line, lines });
                    return;
                }
                _ => {}
            }
        }
    }
}

/// The line of the closing delimiter.
fn last_line(group: &Group) -> usize {
    group.span_close().end().line
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == ':');
    colon(tokens.get(at)) && colon(tokens.get(at + 1))
}

/// `mod name { ... }`, with the group at `at`.
fn is_module(tokens: &[TokenTree], at: usize) -> bool {
    at >= 2 && matches!(&tokens[at - 2], TokenTree::Ident(word) if word == "mod")
}
