//! Aligned tables for people, JSON for programs.

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde_json::{Map, Value, json};

use super::{
    Metric,
    controller::Row,
    names::Cost,
    rounds::Samples,
    stats,
    subjects::{AGAINST, CONTROLLER},
};

/// Column of the subject that others are measured by.
const BASE: usize = 0;
/// What stands where nothing could be measured.
const NOTHING: &str = "-";

/// Columns of the two builds that are compared, if there are two.
fn builds(samples: &Samples<Metric>) -> Option<(usize, usize)> {
    let at = |name| samples.subjects.iter().position(|subject| *subject == name);
    Some((at(CONTROLLER)?, at(AGAINST)?))
}

/// Medians of every subject, and how they compare with the first one; with two builds, how they compare with each other.
#[must_use]
pub fn dataplane(samples: &Samples<Metric>) -> String {
    let others: Vec<usize> = (0..samples.subjects.len()).filter(|at| *at != BASE).collect();
    let mut head = vec![String::new(), "unit".to_owned()];
    head.extend(samples.subjects.iter().map(|name| (*name).to_owned()));
    head.extend(others.iter().map(|at| format!("{} / bare", samples.subjects[*at])));
    let builds = builds(samples);
    head.extend(builds.map(|(new, old)| format!("{} / {}", samples.subjects[new], samples.subjects[old])));
    head.push("spread".to_owned());
    let rows = Metric::ALL.into_iter().map(|metric| {
        let columns = 0..samples.subjects.len();
        let mut row = vec![metric.title().to_owned(), metric.unit().to_owned()];
        row.extend(columns.clone().map(|at| figure(stats::median(samples.of(at, metric)))));
        row.extend(
            others.iter().map(|at| samples.ratio(*at, BASE, metric).map_or(NOTHING.into(), |r| format!("{r:.2}"))),
        );
        let ratio = |(new, old)| samples.ratio(new, old, metric).map_or(NOTHING.into(), |r| format!("{r:.3}"));
        row.extend(builds.map(ratio));
        let widest = columns.filter_map(|at| stats::spread(samples.of(at, metric))).max_by(f64::total_cmp);
        row.push(widest.map_or(NOTHING.into(), |spread| format!("+-{:.0} %", spread * 100.0)));
        row
    });
    table(head, rows)
}

/// Figures of the controller, or of its programs.
#[must_use]
pub fn controller(rows: &[Row]) -> String {
    let head = ["", "unit", "median", "95th percentile", "number", "aim"].map(str::to_owned).to_vec();
    let rows = rows.iter().map(|row| {
        let worst = if row.figures.len() > 1 { figure(stats::percentile(&row.figures, 95)) } else { NOTHING.into() };
        let median = figure(stats::median(&row.figures));
        vec![row.title.into(), row.unit.into(), median, worst, row.figures.len().to_string(), row.aim.into()]
    });
    table(head, rows)
}

/// What answers for names cost.
#[must_use]
pub fn names(samples: &Samples<Cost>) -> String {
    let mut head = vec![String::new(), "unit".to_owned()];
    head.extend(samples.subjects.iter().map(|name| (*name).to_owned()));
    let rows = Cost::ALL.into_iter().map(|cost| {
        let medians = (0..samples.subjects.len()).map(|at| figure(stats::median(samples.of(at, cost))));
        [cost.title().to_owned(), cost.unit().to_owned()].into_iter().chain(medians).collect()
    });
    table(head, rows)
}

/// The same for programs.
#[must_use]
pub fn names_json(samples: &Samples<Cost>) -> Value {
    let costs = |at: usize| {
        let costs = Cost::ALL.into_iter().map(|cost| {
            let of = samples.of(at, cost);
            (cost.key().to_owned(), json!({ "median": stats::median(of), "rounds": of }))
        });
        Value::Object(costs.collect())
    };
    let subjects = samples.subjects.iter().enumerate().map(|(at, name)| ((*name).to_owned(), costs(at)));
    Value::Object(subjects.collect())
}

/// Three significant digits are what such figures are worth.
fn figure(value: Option<f64>) -> String {
    match value {
        None => NOTHING.to_owned(),
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) if value >= 10.0 => format!("{value:.1}"),
        Some(value) if value >= 1.0 => format!("{value:.2}"),
        Some(value) => format!("{value:.3}"),
    }
}

fn table(head: Vec<String>, rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(head).add_rows(rows);
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// All figures of a table, with their medians and ratios.
#[must_use]
pub fn dataplane_json(samples: &Samples<Metric>) -> Value {
    let subject = |at: usize| {
        let metrics = Metric::ALL.into_iter().map(|metric| {
            let of = samples.of(at, metric);
            let mut entry =
                json!({ "median": stats::median(of), "ratio": samples.ratio(at, BASE, metric), "rounds": of });
            if let Some((new, old)) = builds(samples).filter(|(new, _)| *new == at) {
                entry["ratio_against"] = json!(samples.ratio(new, old, metric));
            }
            (metric.key().to_owned(), entry)
        });
        Value::Object(metrics.collect())
    };
    let subjects = samples.subjects.iter().enumerate().map(|(at, name)| ((*name).to_owned(), subject(at)));
    Value::Object(subjects.collect())
}

/// The controller's figures.
#[must_use]
pub fn controller_json(rows: &[Row]) -> Value {
    let rows = rows.iter().map(|row| {
        let (median, worst) = (stats::median(&row.figures), stats::percentile(&row.figures, 95));
        (row.key.to_owned(), json!({ "median": median, "p95": worst, "unit": row.unit, "figures": row.figures }))
    });
    Value::Object(rows.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests;
