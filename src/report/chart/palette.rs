//! One look per strategy, the same on every chart: a colour of the Okabe-Ito set (told apart by colour-blind readers), a
//! dash pattern and a marker, so that a print in grey still works.

use super::picture::Rgb;

/// Look of one strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    /// Unique to the strategy.
    pub rgb: Rgb,
    /// Marker on scatter charts.
    pub shape: Shape,
}

/// Markers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Circle,
    Square,
    Up,
    Diamond,
    Down,
}

impl Style {
    /// Look of the strategy at this position in the file.
    pub(super) fn of(position: usize) -> Self {
        let round = position / COLOURS.len();
        let (r, g, b) = COLOURS[position % COLOURS.len()];
        // Dashes hang on the colour (see `picture`), so a colour that comes round again moves by a hair.
        let b = if b > 127 { b - round as u8 } else { b + round as u8 };
        let shapes = [Shape::Circle, Shape::Square, Shape::Up, Shape::Diamond, Shape::Down];
        Self { rgb: (r, g, b), shape: shapes[position % shapes.len()] }
    }

    /// For legend lines that stand for all strategies.
    pub(super) const fn neutral() -> Self {
        Self { rgb: (130, 130, 130), shape: Shape::Circle }
    }

    /// The dash pattern that belongs to a colour written as `RRGGBB`; `None` for colours that are no strategy's.
    pub(super) fn dash_of(hex: &str) -> Option<&'static str> {
        let position = (0..COLOURS.len() * DASHES.len()).find(|&position| Self::of(position).hex() == hex)?;
        Some(DASHES[(position + position / COLOURS.len()) % DASHES.len()])
    }

    /// `RRGGBB`.
    pub(super) fn hex(self) -> String {
        let (r, g, b) = self.rgb;
        format!("{r:02X}{g:02X}{b:02X}")
    }
}

/// Okabe and Ito's colours without their yellow, which is too pale on white. The baseline, usually first, is dark grey.
const COLOURS: [Rgb; 7] = [
    (60, 60, 60),
    (230, 159, 0),
    (0, 114, 178),
    (0, 158, 115),
    (213, 94, 0),
    (204, 121, 167),
    (86, 180, 233),
];

/// In drawn pixels (twice the shown ones).
const DASHES: [&str; 5] = ["", "14 6", "4 5", "18 5 4 5", "9 5"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_strategies_keep_apart() {
        let looks: Vec<String> = (0..35).map(|position| Style::of(position).hex()).collect();
        let mut unique = looks.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), looks.len());
        assert_eq!(Style::dash_of("3C3C3C"), Some(""));
        assert_eq!(Style::dash_of("E69F00"), Some("14 6"));
        assert_eq!(Style::dash_of("DEDEDE"), None);
    }
}
