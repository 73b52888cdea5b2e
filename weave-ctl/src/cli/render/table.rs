//! Lines and aligned columns.

use comfy_table::{Table, presets};

/// Rows of equally many cells, columns two spaces apart, without trailing spaces.
pub(super) fn table(rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).add_rows(rows.map(|row| row.iter().map(|cell| clean(cell)).collect::<Vec<_>>()));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    if table.row_count() == 0 { String::new() } else { table.lines().map(|l| l.trim_end().to_owned() + "\n").collect() }
}

/// One item a line.
pub(super) fn lines(items: &[String]) -> String {
    items.iter().map(|item| clean(item) + "\n").collect()
}

/// The text without what would move a terminal's cursor, hide, or turn the direction of what follows: nicknames and
/// reasons come from other hosts.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || is_invisible(c) { '?' } else { c }).collect()
}

/// Characters of Unicode that are not seen themselves (general category Cf, and the separators of lines).
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}
