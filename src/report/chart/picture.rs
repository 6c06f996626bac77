//! From a description of a chart to SVG: the one file that speaks to plotters.
//!
//! A chart file says *what* is shown ([`Picture`]); titles, panels, legend, shaded spans and the caption are laid out
//! here, the same way for all charts. Everything is drawn at [`ZOOM`] times the shown size, because plotters rounds to
//! whole pixels and curves would otherwise look stepped.

use plotters::coord::Shift;
use std::fmt::Write as _;

use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Polygon, Rectangle, Text};
use plotters::prelude::SVGBackend;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontFamily, FontStyle, IntoFont, RGBColor, ShapeStyle, TextStyle};

use super::axis::Axis;
use super::marks::{Mark, MarkKind};
use super::palette::{Shape, Style};

/// What a chart shows.
pub(super) struct Picture {
    /// The question that the chart answers.
    pub title: String,
    /// What the curves are.
    pub subtitle: String,
    /// Small print under the chart, wrapped: note, replications, seed, warm-up.
    pub caption: String,
    /// From top to bottom.
    pub panels: Vec<Panel>,
    /// Beside the panels, from top to bottom.
    pub legend: Vec<LegendEntry>,
    /// Faults, rollouts, operator actions and the warm-up; only on axes of time.
    pub marks: Vec<Mark>,
    /// Where the panels go.
    pub arrangement: Arrangement,
}

/// Where the panels of a picture go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrangement {
    /// One below the other, on the same horizontal axis.
    Stacked,
    /// Side by side, in the same rows; the first is the widest.
    Beside,
}

/// One pair of axes.
pub(super) struct Panel {
    /// Above the panel, before the title of its vertical axis; may be empty.
    pub title: String,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// A second vertical axis on the right, for [`Layer::Backdrop`].
    pub right: Option<Axis>,
    /// Height of the plotting area in shown pixels.
    pub height: i32,
    /// Drawn in order, later ones on top.
    pub layers: Vec<Layer>,
}

/// Something drawn in a panel. NaN breaks a line.
pub(super) enum Layer {
    /// Filled down to the floor, measured on the right axis.
    Backdrop { points: Vec<(f64, f64)>, colour: Rgb, opacity: f64 },
    /// (x, low, high).
    Band { points: Vec<(f64, f64, f64)>, colour: Rgb, opacity: f64 },
    /// A curve.
    Line { points: Vec<(f64, f64)>, style: Style, weight: Weight },
    /// A measured point with its intervals.
    Point {
        at: (f64, f64),
        x_interval: Option<(f64, f64)>,
        y_interval: Option<(f64, f64)>,
        style: Style,
        label: String,
    },
    /// One replication of a measured point.
    Dot { at: (f64, f64), style: Style },
}

/// How strongly a line speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// What the chart is about.
    Heavy,
    /// Its companion (p50 beside p99, wanted beside ready).
    Light,
}

/// Red, green, blue.
pub(super) type Rgb = (u8, u8, u8);

/// One line of the legend.
pub(super) enum LegendEntry {
    /// A heading, or a line of text.
    Text(String),
    /// A line sample.
    Line(String, Style, Weight),
    /// A marker sample.
    Marker(String, Style),
    /// A filled sample.
    Patch(String, Rgb, f64),
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

impl Picture {
    /// The SVG document.
    pub(super) fn draw(&self) -> String {
        let layout = Layout::of(self);
        let mut svg = String::new();
        {
            let size = ((WIDTH * ZOOM) as u32, (layout.height * ZOOM) as u32);
            let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
            root.fill(&rgb(WHITE)).expect(IN_MEMORY);
            self.draw_on(&root, &layout);
            root.present().expect(IN_MEMORY);
        }
        finish(&svg, &self.title, layout.height)
    }

    fn draw_on(&self, root: &Area<'_>, layout: &Layout) {
        let title = Font { size: 19, bold: true, ..INK };
        words(root, (MARGIN, 14), (HPos::Left, VPos::Top), title, &cut(&self.title, 100));
        words(
            root,
            (MARGIN, 42),
            (HPos::Left, VPos::Top),
            Font { size: 13, ..PALE_INK },
            &cut(&self.subtitle, 160),
        );
        for (panel, frame) in self.panels.iter().zip(&layout.frames) {
            self.draw_marks(root, frame, panel);
            draw_grid(root, frame, panel, frame.bottom == layout.last_bottom());
            for layer in &panel.layers {
                draw_layer(root, frame, panel, layer);
            }
            label_points(root, frame, panel);
            outline(root, frame);
        }
        if let Some((panel, frame)) = self.panels.first().zip(layout.frames.first()) {
            self.draw_mark_labels(root, layout, frame, panel);
        }
        draw_legend(root, layout, &self.legend);
        for (number, line) in layout.caption.iter().enumerate() {
            let y = layout.last_bottom() + 54 + 17 * pixels(number);
            words(root, (MARGIN, y), (HPos::Left, VPos::Top), Font { size: 12, ..PALE_INK }, line);
        }
    }

    fn draw_marks(&self, root: &Area<'_>, frame: &Frame, panel: &Panel) {
        for mark in &self.marks {
            let (colour, opacity) = mark.kind.shade();
            let (from, to) = (frame.x(panel, mark.from), frame.x(panel, mark.to.unwrap_or(mark.from)));
            if to > from {
                rectangle(root, (from, frame.top * ZOOM), (to, frame.bottom * ZOOM), colour, opacity);
            }
            if mark.kind != MarkKind::WarmUp {
                let line = vec![(from, (frame.top - 4) * ZOOM), (from, frame.bottom * ZOOM)];
                path(root, line, stroke(colour, 0.9, ZOOM as u32));
            }
        }
    }

    /// Labels stand above the first panel, each at the start of its span, in as many rows as they need.
    fn draw_mark_labels(&self, root: &Area<'_>, layout: &Layout, frame: &Frame, panel: &Panel) {
        for (mark, row) in self.marks.iter().zip(&layout.mark_rows) {
            let Some(row) = row else { continue };
            let x = frame.x(panel, mark.from) / ZOOM;
            let y = MARKS_TOP + 15 * pixels(*row);
            let font = Font { size: 11, colour: mark.kind.ink(), ..INK };
            let right = x + text_width(&mark.label, 11) > layout.right;
            let anchor = if right { HPos::Right } else { HPos::Left };
            words(root, (x, y), (anchor, VPos::Top), font, &mark.label);
        }
    }
}

/// Where everything goes, in shown pixels.
struct Layout {
    frames: Vec<Frame>,
    right: i32,
    legend_left: i32,
    mark_rows: Vec<Option<usize>>,
    caption: Vec<String>,
    height: i32,
}

/// The plotting area of a panel, or any other box.
#[derive(Clone, Copy)]
struct Frame {
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
}

impl Layout {
    fn of(picture: &Picture) -> Self {
        let chars = |axis: fn(&Panel) -> Option<&Axis>| {
            picture
                .panels
                .iter()
                .filter_map(axis)
                .map(Axis::label_chars)
                .max()
                .map_or(0, |chars| pixels(chars) * 7 + 12)
        };
        let left = MARGIN + chars(|panel| Some(&panel.y)).max(40);
        let legend_width = picture.legend.iter().map(LegendEntry::width).max().unwrap_or(0).clamp(0, 300);
        let legend_left = WIDTH - MARGIN - legend_width;
        let right = legend_left - 20 - chars(|panel| panel.right.as_ref());
        let (mark_rows, mark_row_count) = place_labels(picture, left, right);
        let mut top = MARKS_TOP + 15 * pixels(mark_row_count) + 28;
        let mut frames = Vec::new();
        for panel in &picture.panels {
            frames.push(Frame { left, right, top, bottom: top + panel.height });
            top += panel.height + 44;
        }
        if picture.arrangement == Arrangement::Beside {
            set_beside(&mut frames);
        }
        let caption = wrapped(&picture.caption, 170);
        let bottom = frames.last().map_or(top, |frame: &Frame| frame.bottom);
        let legend_bottom = 94 + 20 * pixels(picture.legend.len());
        let height = (bottom.max(legend_bottom)) + 54 + 17 * pixels(caption.len()) + 12;
        Self { frames, right, legend_left, mark_rows, caption, height }
    }

    fn last_bottom(&self) -> i32 {
        self.frames.last().map_or(0, |frame| frame.bottom)
    }
}

/// Moves frames side by side.
fn set_beside(frames: &mut [Frame]) {
    const GAP: i32 = 34;
    let (Some(&first), others) = (frames.first(), pixels(frames.len()) - 1) else { return };
    let room = first.right - first.left - GAP * others;
    // The first counts as much as one and a half of the others.
    let width = room * 2 / (2 * others + 3);
    let mut right = first.right;
    for frame in frames.iter_mut().skip(1).rev() {
        *frame = Frame { left: right - width, right, ..first };
        right -= width + GAP;
    }
    frames[0].right = right;
}

impl Frame {
    const fn around(left: i32, top: i32, width: i32, height: i32) -> Self {
        Self { left, right: left + width, top, bottom: top + height }
    }

    const fn within(&self, outer: &Self) -> bool {
        self.left >= outer.left
            && self.right <= outer.right
            && self.top >= outer.top
            && self.bottom <= outer.bottom
    }

    const fn touches(&self, other: &Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }

    /// Drawn pixel of a value on the horizontal axis.
    fn x(&self, panel: &Panel, value: f64) -> i32 {
        let width = f64::from((self.right - self.left) * ZOOM);
        self.left * ZOOM + (panel.x.position(value) * width).round() as i32
    }

    /// Drawn pixel of a value on a vertical axis.
    fn y(&self, axis: &Axis, value: f64) -> i32 {
        let height = f64::from((self.bottom - self.top) * ZOOM);
        self.bottom * ZOOM - (axis.position(value) * height).round() as i32
    }

    fn at(&self, panel: &Panel, (x, y): (f64, f64)) -> (i32, i32) {
        (self.x(panel, x), self.y(&panel.y, y))
    }
}

/// Row of each mark's label, from the top; `None` where there is no room in [`MOST_MARK_ROWS`] rows.
fn place_labels(picture: &Picture, left: i32, right: i32) -> (Vec<Option<usize>>, usize) {
    let Some(panel) = picture.panels.first() else { return (Vec::new(), 0) };
    let mut ends: Vec<i32> = Vec::new();
    let rows = picture
        .marks
        .iter()
        .map(|mark| {
            let width = text_width(&mark.label, 11);
            let x = left + (panel.x.position(mark.from) * f64::from(right - left)) as i32;
            let start = if x + width > right { x - width } else { x };
            let row = ends.iter().position(|end| *end + 12 <= start);
            match row {
                Some(row) => ends[row] = start + width,
                None if ends.len() < MOST_MARK_ROWS => ends.push(start + width),
                None => return None,
            }
            Some(row.unwrap_or(ends.len() - 1))
        })
        .collect();
    (rows, ends.len())
}

fn draw_grid(root: &Area<'_>, frame: &Frame, panel: &Panel, lowest: bool) {
    let (left, right) = (frame.left * ZOOM, frame.right * ZOOM);
    for &value in panel.y.minor() {
        let y = frame.y(&panel.y, value);
        path(root, vec![(left, y), (right, y)], stroke(GRID, 0.45, ZOOM as u32 / 2));
    }
    for (value, label) in panel.y.ticks() {
        let y = frame.y(&panel.y, *value);
        path(root, vec![(left, y), (right, y)], stroke(GRID, 1.0, ZOOM as u32));
        words(root, (frame.left - 7, y / ZOOM), (HPos::Right, VPos::Center), Font { size: 12, ..INK }, label);
    }
    for (value, label) in panel.x.ticks() {
        let x = frame.x(panel, *value);
        path(root, vec![(x, frame.top * ZOOM), (x, frame.bottom * ZOOM)], stroke(GRID, 0.7, ZOOM as u32));
        path(
            root,
            vec![(x, frame.bottom * ZOOM), (x, (frame.bottom + 4) * ZOOM)],
            stroke(AXIS, 1.0, ZOOM as u32),
        );
        if lowest {
            words(
                root,
                (x / ZOOM, frame.bottom + 8),
                (HPos::Center, VPos::Top),
                Font { size: 12, ..INK },
                label,
            );
        }
    }
    if let Some(axis) = &panel.right {
        for (value, label) in axis.ticks() {
            let y = frame.y(axis, *value) / ZOOM;
            words(
                root,
                (frame.right + 7, y),
                (HPos::Left, VPos::Center),
                Font { size: 12, ..PALE_INK },
                label,
            );
        }
        let head = Font { size: 12, ..PALE_INK };
        words(root, (frame.right + 30, frame.top - 20), (HPos::Right, VPos::Top), head, &axis.title);
    }
    let head = if panel.title.is_empty() || panel.y.title.is_empty() {
        format!("{}{}", panel.title, panel.y.title)
    } else {
        format!("{}: {}", panel.title, panel.y.title)
    };
    words(
        root,
        (frame.left - 40, frame.top - 20),
        (HPos::Left, VPos::Top),
        Font { size: 12, bold: true, ..INK },
        &head,
    );
    if lowest {
        let middle = i32::midpoint(frame.left, frame.right);
        words(
            root,
            (middle, frame.bottom + 28),
            (HPos::Center, VPos::Top),
            Font { size: 12, ..INK },
            &panel.x.title,
        );
    }
}

fn draw_layer(root: &Area<'_>, frame: &Frame, panel: &Panel, layer: &Layer) {
    match layer {
        Layer::Backdrop { points, colour, opacity } => {
            let axis = panel.right.as_ref().unwrap_or(&panel.y);
            for run in runs(points, |(_, y)| !y.is_nan()) {
                let top = run.iter().map(|&(x, y)| (frame.x(panel, x), frame.y(axis, y)));
                let floor = frame.bottom * ZOOM;
                let ends = [run[run.len() - 1].0, run[0].0].map(|x| (frame.x(panel, x), floor));
                polygon(root, top.chain(ends).collect(), *colour, *opacity);
            }
        }
        Layer::Band { points, colour, opacity } => {
            for run in runs(points, |(_, low, high)| !(low.is_nan() || high.is_nan())) {
                let top = run.iter().map(|&(x, _, high)| frame.at(panel, (x, high)));
                let back = run.iter().rev().map(|&(x, low, _)| frame.at(panel, (x, low)));
                polygon(root, top.chain(back).collect(), *colour, *opacity);
            }
        }
        Layer::Line { points, style, weight } => {
            for run in runs(points, |(_, y)| !y.is_nan()) {
                let mut line: Vec<_> = run.iter().map(|&point| frame.at(panel, point)).collect();
                if let [(x, y)] = line[..] {
                    line = vec![(x - ZOOM, y), (x + ZOOM, y)];
                }
                path(root, line, weight.stroke(*style));
            }
        }
        Layer::Point { at, x_interval, y_interval, style, .. } => {
            // Bars rather than lines: intervals are not dashed.
            let (x, y) = frame.at(panel, *at);
            if let Some((lo, hi)) = x_interval {
                let (from, to) = ((frame.x(panel, *lo), y - 1), (frame.x(panel, *hi), y + 1));
                rectangle(root, from, to, style.rgb, 0.8);
            }
            if let Some((lo, hi)) = y_interval {
                let (from, to) = ((x - 1, frame.y(&panel.y, *hi)), (x + 1, frame.y(&panel.y, *lo)));
                rectangle(root, from, to, style.rgb, 0.8);
            }
            marker(root, (x, y), *style, 6);
        }
        Layer::Dot { at, style } => {
            let dot = Circle::new(frame.at(panel, *at), 3 * ZOOM, rgb(style.rgb).mix(0.35).filled());
            root.draw(&dot).expect(IN_MEMORY);
        }
    }
}

/// Names beside the points, each on the first side where it covers neither a marker nor another name. A name without
/// such a side is left to the legend.
fn label_points(root: &Area<'_>, frame: &Frame, panel: &Panel) {
    let points = || {
        panel.layers.iter().filter_map(|layer| match layer {
            Layer::Point { at, label, .. } => {
                let (x, y) = frame.at(panel, *at);
                Some((x / ZOOM, y / ZOOM, label))
            }
            _ => None,
        })
    };
    let mut taken: Vec<Frame> = points().map(|(x, y, _)| Frame::around(x - 7, y - 7, 14, 14)).collect();
    for (x, y, label) in points() {
        let width = text_width(label, 12);
        let sides =
            [(10, -16), (10, 4), (-10 - width, -16), (-10 - width, 4), (-width / 2, -26), (-width / 2, 12)];
        let boxes = sides.map(|(dx, dy)| Frame::around(x + dx, y + dy, width, 14));
        let free = boxes
            .into_iter()
            .find(|spot| spot.within(frame) && !taken.iter().any(|other| spot.touches(other)));
        let Some(spot) = free else { continue };
        words(root, (spot.left, spot.top), (HPos::Left, VPos::Top), Font { size: 12, ..INK }, label);
        taken.push(spot);
    }
}

fn draw_legend(root: &Area<'_>, layout: &Layout, legend: &[LegendEntry]) {
    let left = layout.legend_left;
    let Some(first) = layout.frames.first() else { return };
    for (number, entry) in legend.iter().enumerate() {
        let y = first.top + 8 + 20 * pixels(number);
        let text =
            |x: i32, font: Font, label: &str| words(root, (x, y), (HPos::Left, VPos::Center), font, label);
        let plain = Font { size: 13, ..INK };
        match entry {
            LegendEntry::Text(words) => text(left, Font { size: 12, ..PALE_INK }, words),
            LegendEntry::Line(words, style, weight) => {
                path(
                    root,
                    vec![(left * ZOOM, y * ZOOM), ((left + 34) * ZOOM, y * ZOOM)],
                    weight.stroke(*style),
                );
                text(left + 42, plain, words);
            }
            LegendEntry::Marker(words, style) => {
                marker(root, ((left + 17) * ZOOM, y * ZOOM), *style, 6);
                text(left + 42, plain, words);
            }
            LegendEntry::Patch(words, colour, opacity) => {
                let (from, to) = ((left * ZOOM, (y - 6) * ZOOM), ((left + 34) * ZOOM, (y + 6) * ZOOM));
                rectangle(root, from, to, *colour, *opacity);
                text(left + 42, plain, words);
            }
        }
    }
}

impl LegendEntry {
    fn width(&self) -> i32 {
        match self {
            Self::Text(words) => text_width(words, 12),
            Self::Line(words, ..) | Self::Marker(words, _) | Self::Patch(words, ..) => {
                42 + text_width(words, 13)
            }
        }
    }
}

impl Weight {
    fn stroke(self, style: Style) -> ShapeStyle {
        match self {
            Self::Heavy => stroke(style.rgb, 1.0, ZOOM as u32 * 2),
            Self::Light => stroke(style.rgb, 0.75, ZOOM as u32),
        }
    }
}

fn marker(root: &Area<'_>, (x, y): (i32, i32), style: Style, radius: i32) {
    let r = radius * ZOOM;
    let corners: &[(f64, f64)] = match style.shape {
        Shape::Circle => {
            root.draw(&Circle::new((x, y), r, rgb(style.rgb).filled())).expect(IN_MEMORY);
            return;
        }
        Shape::Square => &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        Shape::Up => &[(0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)],
        Shape::Down => &[(0.0, 1.2), (1.1, -0.8), (-1.1, -0.8)],
        Shape::Diamond => &[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)],
    };
    let scaled =
        corners.iter().map(|(dx, dy)| (x + (dx * f64::from(r)) as i32, y + (dy * f64::from(r)) as i32));
    polygon(root, scaled.collect(), style.rgb, 1.0);
}

fn outline(root: &Area<'_>, frame: &Frame) {
    let (left, right, bottom) = (frame.left * ZOOM, frame.right * ZOOM, frame.bottom * ZOOM);
    path(
        root,
        vec![(left, frame.top * ZOOM), (left, bottom), (right, bottom)],
        stroke(AXIS, 1.0, ZOOM as u32),
    );
}

fn polygon(root: &Area<'_>, points: Vec<(i32, i32)>, colour: Rgb, opacity: f64) {
    root.draw(&Polygon::new(points, rgb(colour).mix(opacity).filled())).expect(IN_MEMORY);
}

fn rectangle(root: &Area<'_>, from: (i32, i32), to: (i32, i32), colour: Rgb, opacity: f64) {
    root.draw(&Rectangle::new([from, to], rgb(colour).mix(opacity).filled())).expect(IN_MEMORY);
}

fn path(root: &Area<'_>, points: Vec<(i32, i32)>, style: ShapeStyle) {
    root.draw(&PathElement::new(points, style)).expect(IN_MEMORY);
}

fn stroke(colour: Rgb, opacity: f64, width: u32) -> ShapeStyle {
    rgb(colour).mix(opacity).stroke_width(width)
}

const fn rgb((r, g, b): Rgb) -> RGBColor {
    RGBColor(r, g, b)
}

/// Size in shown pixels, weight and colour of a text.
#[derive(Clone, Copy)]
struct Font {
    size: i32,
    bold: bool,
    colour: Rgb,
}

fn words(root: &Area<'_>, (x, y): (i32, i32), (h, v): (HPos, VPos), font: Font, text: &str) {
    // Control characters are legal in a scenario's strings but not in XML.
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    if text.is_empty() {
        return;
    }
    // plotters divides font sizes by 1.24 on their way into SVG.
    let size = f64::from(font.size * ZOOM) * 1.24;
    let weight = if font.bold { FontStyle::Bold } else { FontStyle::Normal };
    let colour = rgb(font.colour);
    let style =
        TextStyle::from((FontFamily::SansSerif, size, weight).into_font()).color(&colour).pos(Pos::new(h, v));
    root.draw(&Text::new(text, (x * ZOOM, y * ZOOM), style)).expect(IN_MEMORY);
}

/// A count as a number of pixels; layouts never come near the end of the range.
fn pixels(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX / 64)
}

/// Roughly how wide a text is; there are no font metrics here, and layout only needs a safe guess.
fn text_width(text: &str, size: i32) -> i32 {
    pixels(text.chars().count()) * size * 58 / 100
}

/// At most `chars` characters.
pub(super) fn cut(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars {
        return text.to_owned();
    }
    text.chars().take(chars - 1).chain(['…']).collect()
}

/// Maximal stretches of points that are all there.
fn runs<T: Copy>(points: &[T], there: impl Fn(&T) -> bool) -> Vec<Vec<T>> {
    let stretches = points.split(|point| !there(point)).filter(|stretch| !stretch.is_empty());
    stretches.map(<[T]>::to_vec).collect()
}

/// Lines of at most `chars` characters; existing line ends are kept.
fn wrapped(text: &str, chars: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > chars {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

/// Gives the document its shown size, a name for screen readers, and dashes: plotters cannot dash a line, so the dash
/// pattern hangs on the colour, which is unique to a style.
fn finish(svg: &str, title: &str, height: i32) -> String {
    let mut text = String::with_capacity(svg.len() + svg.len() / 16);
    for (number, line) in svg.lines().enumerate() {
        if number == 0 {
            let (drawn_width, drawn_height) = (WIDTH * ZOOM, height * ZOOM);
            let title = title.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
            write!(
                text,
                "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
                 viewBox=\"0 0 {drawn_width} {drawn_height}\" role=\"img\" aria-label=\"{title}\" stroke-linejoin=\"round\">"
            )
            .expect(IN_MEMORY);
        } else if let Some((before, after)) =
            line.starts_with("<polyline").then(|| line.split_once("stroke=\"#")).flatten()
        {
            let dash = after.get(..6).and_then(Style::dash_of).unwrap_or("");
            text.push_str(before);
            if !dash.is_empty() {
                write!(text, "stroke-dasharray=\"{dash}\" ").expect(IN_MEMORY);
            }
            text.push_str("stroke=\"#");
            text.push_str(after.trim_end());
        } else {
            text.push_str(line);
        }
        text.push('\n');
    }
    text
}

const WIDTH: i32 = 1200;
const MARGIN: i32 = 24;
const ZOOM: i32 = 2;
const MARKS_TOP: i32 = 66;
const MOST_MARK_ROWS: usize = 3;
const WHITE: Rgb = (255, 255, 255);
const GRID: Rgb = (222, 222, 222);
const AXIS: Rgb = (90, 90, 90);
const INK: Font = Font { size: 13, bold: false, colour: (30, 30, 30) };
const PALE_INK: Font = Font { size: 13, bold: false, colour: (95, 95, 95) };
const IN_MEMORY: &str = "drawing into a string cannot fail";
