//! Medians, percentiles and spread of a handful of figures.

/// The figure that half of the others do not exceed; `None` of nothing. Of an even number: the middle of the two.
#[must_use]
pub fn median(figures: &[f64]) -> Option<f64> {
    let sorted = sorted(figures);
    let (low, high) = (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
    Some(f64::midpoint(*low, *high))
}

/// The smallest figure that at least `percent` of 100 do not exceed; `None` of nothing.
#[must_use]
pub fn percentile(figures: &[f64], percent: usize) -> Option<f64> {
    let sorted = sorted(figures);
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

/// Half of the distance between the largest and the smallest figure, as a part of the median.
#[must_use]
pub fn spread(figures: &[f64]) -> Option<f64> {
    let sorted = sorted(figures);
    let median = median(figures).filter(|median| *median != 0.0)?;
    Some((sorted.last()? - sorted.first()?) / 2.0 / median)
}

/// How figures compare with others of the same rounds: the median of the ratios within each round, which a machine that
/// is slower for a while does not change. With a figure missing, the ratio of the medians.
#[must_use]
pub fn ratio(figures: &[f64], base: &[f64]) -> Option<f64> {
    if figures.len() == base.len() && !base.contains(&0.0) {
        let ratios: Vec<f64> = figures.iter().zip(base).map(|(figure, base)| figure / base).collect();
        return median(&ratios);
    }
    let base = median(base).filter(|base| *base != 0.0)?;
    Some(median(figures)? / base)
}

fn sorted(figures: &[f64]) -> Vec<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests;
