//! Rule `functions`: none over [`LIMIT`] lines, signature and braces included.

use super::{Finding, Source, tokens::Code};

const LIMIT: usize = 70;

pub(super) fn check(source: &Source, code: &Code) -> Vec<Finding> {
    let long = code.functions.iter().filter(|function| function.lines > LIMIT);
    long.map(|function| Finding {
        rule: "functions",
        place: format!("{}:{}", source.path, function.line),
        item: function.name.clone(),
        message: format!("`{}` has {} lines; at most {LIMIT}", function.name, function.lines),
    })
    .collect()
}
