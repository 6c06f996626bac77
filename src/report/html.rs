//! `report.html`.
use super::chart::Chart;
use crate::lab::outcome::StudyOutcome;

/// The report.
pub fn report_html(_outcome: &StudyOutcome, _charts: &[Chart]) -> Vec<u8> {
    Vec::new()
}
