//! The version tree of every service that is updated, and which of its nodes were alive when.

use super::axis::Axis;
use super::picture::{Arrangement, Layer, LegendEntry, Panel, Picture, Weight};
use super::{Style, caption, shortened, strategy_legend};
use crate::lab::outcome::{StudyOutcome, VersionLife};

pub(super) const READING: &str = "Every row is a version; its name says from which it was made. A strong line: instances of it could serve. A thin line \
     leads from a version to one that was made from it, where that came to life. Shown is the first replication; strategies lie \
     beside one another in a row. Versions without a line were never alive.";

/// Services beyond this many are left to events.csv.
const MOST_PANELS: usize = 4;

pub(super) fn picture(outcome: &StudyOutcome) -> Option<Picture> {
    let first = outcome.strategies.first()?.replications.first()?;
    let mut services: Vec<&str> = Vec::new();
    for life in &first.lives {
        let versions = first.lives.iter().filter(|other| other.service == life.service).count();
        if versions > 1 && !services.contains(&life.service.as_str()) {
            services.push(&life.service);
        }
    }
    if services.is_empty() {
        return None;
    }
    let panels = services.iter().take(MOST_PANELS).map(|service| panel(outcome, service)).collect();
    let mut legend = strategy_legend(outcome);
    legend.push(LegendEntry::Text(String::new()));
    legend.push(LegendEntry::Line("alive".to_owned(), Style::neutral(), Weight::Heavy));
    legend.push(LegendEntry::Line("made from".to_owned(), Style::neutral(), Weight::Light));
    let words = match services.len().saturating_sub(MOST_PANELS) {
        0 => "Lines: the first replication.".to_owned(),
        n => format!("Lines: the first replication. {n} more services are in events.csv."),
    };
    Some(Picture {
        title: "Which versions were alive when?".to_owned(),
        subtitle: format!("{} · the version tree of each service", outcome.manifest.title),
        caption: caption(outcome, &words),
        panels,
        legend,
        marks: Vec::new(),
        arrangement: Arrangement::Stacked,
    })
}

/// Versions of a service in the order of the tree: children right after their parent, older ones first.
fn rows<'a>(lives: &'a [VersionLife], service: &str) -> Vec<&'a VersionLife> {
    let mine: Vec<&VersionLife> = lives.iter().filter(|life| life.service == service).collect();
    let mut rows = Vec::new();
    let mut open: Vec<&VersionLife> =
        mine.iter().filter(|life| life.parent.is_none()).rev().copied().collect();
    while let Some(life) = open.pop() {
        rows.push(life);
        let children = mine.iter().filter(|child| child.parent.as_ref() == Some(&life.version));
        open.extend(children.rev().copied());
    }
    rows
}

fn panel(outcome: &StudyOutcome, service: &str) -> Panel {
    let first = outcome.strategies.first().and_then(|strategy| strategy.replications.first());
    let tree = first.map(|run| rows(&run.lives, service)).unwrap_or_default();
    // The first version stands at the top.
    let row = |version: &str| {
        let at = tree.iter().position(|life| life.version == version).unwrap_or(0);
        (tree.len() - at) as f64
    };
    let many = outcome.strategies.len() as f64;
    let (mut thin, mut strong) = (Vec::new(), Vec::new());
    for (position, strategy) in outcome.strategies.iter().enumerate() {
        let Some(run) = strategy.replications.first() else { continue };
        let style = Style::of(position);
        let offset = (position as f64 + 0.5) / many * 0.7 - 0.35;
        for life in run.lives.iter().filter(|life| life.service == service) {
            let y = row(&life.version) - offset;
            for &(from, to) in &life.spans {
                strong.push(Layer::Line { points: vec![(from, y), (to, y)], style, weight: Weight::Heavy });
            }
            if let (Some(parent), Some(&(from, _))) = (&life.parent, life.spans.first()) {
                let points = vec![(from, row(parent) - offset), (from, y)];
                thin.push(Layer::Line { points, style, weight: Weight::Light });
            }
        }
    }
    let label = |life: &&VersionLife| {
        let made = life.parent.as_ref().map_or_else(String::new, |parent| format!(" (from {parent})"));
        shortened(&format!("{}{made}", life.version))
    };
    let labels: Vec<String> = tree.iter().map(label).collect();
    let room = |count: usize, each: i32| each * i32::try_from(count).unwrap_or(1);
    Panel {
        title: service.to_owned(),
        x: Axis::time(outcome.manifest.duration_s),
        y: Axis::rows(&labels),
        right: None,
        height: 40 + room(tree.len(), 20 + room(outcome.strategies.len(), 7)),
        layers: thin.into_iter().chain(strong).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_follow_their_parent() {
        let life = |version: &str, parent: Option<&str>| VersionLife {
            service: "api".to_owned(),
            version: version.to_owned(),
            parent: parent.map(str::to_owned),
            spans: Vec::new(),
        };
        let lives =
            [life("v1", None), life("v2", Some("v1")), life("v1-fix", Some("v1")), life("v3", Some("v2"))];
        let order: Vec<&str> = rows(&lives, "api").iter().map(|life| life.version.as_str()).collect();
        assert_eq!(order, ["v1", "v2", "v3", "v1-fix"]);
    }
}
