//! The rows of layers, in the order in which they came.

use comfy_table::{CellAlignment, Table as Drawing, presets::ASCII_MARKDOWN};

use crate::suite::process::Counts;

/// A row's name; equal rows are summed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) layer: String,
    pub(super) name: String,
}

/// Rows with their counts.
#[derive(Default)]
pub(super) struct Table {
    rows: Vec<(Row, Counts)>,
}

impl Table {
    pub(super) fn add(&mut self, row: Row, counts: Counts) {
        match self.rows.iter_mut().find(|(known, _)| *known == row) {
            Some((_, sum)) => *sum += counts,
            None => self.rows.push((row, counts)),
        }
    }

    /// The ignored tests run after all, in rows of their own.
    pub(super) fn forget_ignored(&mut self) {
        self.rows.iter_mut().for_each(|(_, counts)| counts.ignored = 0);
    }

    pub(super) fn total(&self) -> Counts {
        let mut total = Counts::default();
        for (_, counts) in &self.rows {
            total += *counts;
        }
        total
    }

    /// Rows with neither a test nor a failure say nothing and are left out.
    pub(super) fn render(&self) -> String {
        let mut drawing = Drawing::new();
        drawing.load_style(ASCII_MARKDOWN).set_header(["layer", "tests", "passed", "failed", "ignored", "seconds"]);
        let mut rows: Vec<_> = self.rows.iter().filter(|(_, o)| o.passed + o.failed + o.ignored > 0).collect();
        rows.sort_by(|(one, _), (other, _)| one.layer.cmp(&other.layer));
        for (Row { layer, name }, Counts { passed, failed, ignored, seconds }) in rows {
            let counts = [passed, failed, ignored].map(ToString::to_string);
            let [passed, failed, ignored] = counts;
            drawing.add_row([layer.clone(), name.clone(), passed, failed, ignored, format!("{seconds:.1}")]);
        }
        for column in drawing.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        drawing.to_string()
    }
}
