//! A figure, and the plots that figures are made of.

use crate::group::Point;
use kuva::plot::{
    BandPlot, BarPlot, BoxPlot, ColorMap, Heatmap, LegendPosition, LinePlot, StackedAreaPlot,
};
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;
use kuva::render::render::render_multiple;
use std::sync::Arc;

/// Colours that people with any colour vision can tell apart: Okabe and Ito 2008,
/// <https://jfly.uni-koeln.de/color/>.
pub const COLORS: [&str; 7] = [
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000",
];

const WIDTH: f64 = 640.0;

/// A finished figure.
pub struct Figure {
    /// The name of its files.
    pub name: String,
    /// Caption of the figure on the page.
    pub caption: String,
    pub svg: String,
}

/// Axes of a figure: titles and kinds of numbers.
pub struct Axes<'a> {
    pub x: &'a str,
    pub y: &'a str,
    /// Ends of the horizontal axis; otherwise it is as long as the data and a little longer.
    pub x_range: Option<(f64, f64)>,
    /// Ends of the vertical axis, likewise.
    pub y_range: Option<(Option<f64>, Option<f64>)>,
    /// True if the horizontal axis shows only whole numbers.
    pub counts: bool,
    /// True if the vertical axis shows only whole numbers.
    pub whole: bool,
}

impl<'a> Axes<'a> {
    pub fn new(x: &'a str, y: &'a str) -> Self {
        Self {
            x,
            y,
            x_range: None,
            y_range: None,
            counts: false,
            whole: false,
        }
    }

    /// Counts rounds from `first` to `last`.
    pub fn rounds(y: &'a str, first: u32, last: u32) -> Self {
        let range = (f64::from(first), f64::from(last.max(first + 1)));
        Self {
            x_range: Some(range),
            counts: true,
            ..Self::new("Round", y)
        }
    }

    /// Counts what can be counted.
    pub fn in_wholes(self) -> Self {
        Self {
            whole: true,
            ..self
        }
    }

    /// Begins at 0.
    pub fn with_zero(self) -> Self {
        Self {
            y_range: Some((Some(0.0), None)),
            ..self
        }
    }

    /// Goes from 0 to a little over `most`.
    pub fn zero_to(self, most: f64) -> Self {
        let top = if most > 0.0 { most * 1.2 } else { 1.0 };
        Self {
            y_range: Some((Some(0.0), Some(top))),
            ..self
        }
    }

    fn apply(&self, mut layout: Layout) -> Layout {
        if let Some((first, last)) = self.x_range {
            layout = layout.with_x_axis_min(first).with_x_axis_max(last);
        }
        let (low, high) = self.y_range.unwrap_or_default();
        if let Some(low) = low {
            layout = layout.with_y_axis_min(low);
        }
        if let Some(high) = high {
            layout = layout.with_y_axis_max(high);
        }
        if self.counts {
            layout = layout.with_x_tick_format(whole());
        }
        if self.whole {
            layout = layout.with_y_tick_format(whole());
        }
        layout
    }
}

/// Whole numbers; between them an axis stays bare.
fn whole() -> TickFormat {
    TickFormat::Custom(Arc::new(|value: f64| {
        if value.fract().abs() < 1e-9 {
            format!("{value:.0}")
        } else {
            String::new()
        }
    }))
}

impl Figure {
    /// `entries`: how many the legend has.
    pub fn new(
        name: &str,
        caption: String,
        plots: Vec<Plot>,
        axes: &Axes<'_>,
        entries: usize,
    ) -> Self {
        // Below the plot a legend is cut off from its third line on.
        let position = if entries > 4 {
            LegendPosition::OutsideRightTop
        } else {
            LegendPosition::OutsideBottomColumns
        };
        let layout = Layout::auto_from_plots(&plots)
            .with_width(WIDTH)
            .with_x_label(axes.x)
            .with_y_label(axes.y)
            .with_legend_box(false)
            .with_legend_position(position);
        Self::drawn(name, caption, plots, axes.apply(layout))
    }

    /// Cells of one colour scale, `[rows][columns]`, counted from 0 both ways.
    pub fn heat(
        name: &str,
        caption: String,
        cells: &[Vec<u32>],
        (x, y, what): (&str, &str, &str),
    ) -> Self {
        let columns = cells.iter().map(Vec::len).max().unwrap_or(0) as f64;
        let rows = cells.len() as f64;
        let values = cells
            .iter()
            .map(|row| row.iter().map(|&cell| f64::from(cell)));
        let plot = Heatmap::new()
            .with_data(values)
            .with_color_map(ColorMap::Viridis)
            .with_cell_size(1.0)
            .with_x_range(-0.5, columns - 0.5)
            .with_y_range(-0.5, rows - 0.5);
        let plots = vec![plot.into()];
        let axes = Axes {
            x_range: Some((-0.5, columns - 0.5)),
            y_range: Some((Some(-0.5), Some(rows - 0.5))),
            counts: true,
            ..Axes::new(x, y)
        };
        let layout = Layout::auto_from_plots(&plots)
            .with_width(WIDTH)
            .with_title(what)
            .with_title_size(14)
            .with_x_label(x)
            .with_y_label(y)
            .with_show_grid(false)
            .with_ticks(10)
            .with_y_tick_format(whole());
        Self::drawn(name, caption, plots, axes.apply(layout))
    }

    fn drawn(name: &str, caption: String, plots: Vec<Plot>, layout: Layout) -> Self {
        let scene = render_multiple(plots, layout);
        let svg = kuva::backend::svg::SvgBackend::new().render_scene(&scene);
        Self {
            name: name.to_owned(),
            caption,
            svg,
        }
    }
}

/// The colour of the group at this place.
pub fn color(at: usize) -> &'static str {
    COLORS[at % COLORS.len()]
}

/// A curve, with its band where there is one.
pub fn curve(points: &[Point], label: &str, color: &str) -> Vec<Plot> {
    let line = line(points, color)
        .with_stroke_width(2.2)
        .with_legend(label);
    band(points, color)
        .into_iter()
        .chain([line.into()])
        .collect()
}

/// The curve of the group at this place: dashed where the colours begin anew.
pub fn curve_at(points: &[Point], label: &str, at: usize) -> Vec<Plot> {
    if at < COLORS.len() {
        return curve(points, label, color(at));
    }
    let line = line(points, color(at))
        .with_stroke_width(2.2)
        .with_dashed()
        .with_legend(label);
    band(points, color(at))
        .into_iter()
        .chain([line.into()])
        .collect()
}

/// A curve that goes with another: dashed, and thinner, since the dashes of a PNG are small. Without a label it
/// is left to the caption.
pub fn companion(points: &[Point], label: Option<&str>, color: &str) -> Vec<Plot> {
    let line = line(points, color).with_stroke_width(1.1).with_dashed();
    let line = match label {
        Some(label) => line.with_legend(label),
        None => line,
    };
    band(points, color)
        .into_iter()
        .chain([line.into()])
        .collect()
}

fn line(points: &[Point], color: &str) -> LinePlot {
    let points = points.iter().map(|point| (point.x, point.y.mean));
    LinePlot::new().with_data(points).with_color(color)
}

fn band(points: &[Point], color: &str) -> Option<Plot> {
    points.iter().find(|point| point.y.std.is_some())?;
    let edge = |sign: f64| {
        let at = move |point: &Point| point.y.mean + sign * point.y.std.unwrap_or(0.0);
        points.iter().map(at).collect::<Vec<f64>>()
    };
    let x: Vec<f64> = points.iter().map(|point| point.x).collect();
    Some(
        BandPlot::new(x, edge(-1.0), edge(1.0))
            .with_color(color)
            .into(),
    )
}

/// The room between two curves.
pub fn filled(x: &[f64], from: &[f64], to: &[f64], color: &str) -> Plot {
    let (from, to) = (from.to_vec(), to.to_vec());
    BandPlot::new(x.to_vec(), from, to).with_color(color).into()
}

/// A box for each label that has values.
pub fn boxes(groups: &[(String, Vec<f64>)]) -> Option<Plot> {
    let mut plot = BoxPlot::new()
        .with_width(0.5)
        .with_strip(0.25)
        .with_overlay_size(2.5)
        .with_overlay_color("#222222");
    let mut colors = Vec::new();
    for (at, (label, values)) in groups.iter().enumerate() {
        if !values.is_empty() {
            plot = plot.with_group(label.as_str(), values.clone());
            colors.push(color(at));
        }
    }
    (!colors.is_empty()).then(|| plot.with_group_colors(colors).into())
}

/// Parts that add up, over rounds.
pub fn area(x: &[f64], parts: &[(&str, Vec<f64>)]) -> Plot {
    let mut plot = StackedAreaPlot::new()
        .with_x(x.to_vec())
        .with_fill_opacity(0.85);
    for (at, (label, values)) in parts.iter().enumerate() {
        plot = plot
            .with_series(values.clone())
            .with_color(color(at))
            .with_legend(*label);
    }
    plot.into()
}

/// Colours of classes: more than groups ever have.
const CLASS_COLORS: [&str; 10] = [
    "#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#ff9da7",
    "#9c755f", "#9aa3ab",
];

/// Parts that add up, a bar for each of `bars`.
pub fn stacks(bars: &[(String, Vec<f64>)], parts: &[&str]) -> Plot {
    stacks_in(bars, parts, color)
}

/// Examples of classes, a bar for each of `bars`.
pub fn class_stacks(bars: &[(String, Vec<f64>)], classes: &[&str]) -> Plot {
    stacks_in(bars, classes, |at| CLASS_COLORS[at % CLASS_COLORS.len()])
}

fn stacks_in(
    bars: &[(String, Vec<f64>)],
    parts: &[&str],
    color: impl Fn(usize) -> &'static str,
) -> Plot {
    let mut plot = BarPlot::new();
    for (label, values) in bars {
        let values = values
            .iter()
            .enumerate()
            .map(|(at, &value)| (value, color(at)));
        plot = plot.with_group(label.as_str(), values);
    }
    plot.with_stacked()
        .with_width(0.6)
        .with_legend(parts.to_vec())
        .into()
}
