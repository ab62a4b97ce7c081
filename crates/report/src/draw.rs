//! A figure, and the plots that figures are made of.

use crate::group::{Group, Point};
use anyhow::Result;
use kuva::backend::png::PngBackend;
use kuva::plot::{
    BandPlot, BarPlot, BoxPlot, ColorMap, Heatmap, LegendPosition, LinePlot, StackedAreaPlot,
};
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;
use kuva::render::render::render_multiple;

/// Colours that people with any colour vision can tell apart: Okabe and Ito 2008,
/// <https://jfly.uni-koeln.de/color/>.
pub const COLORS: [&str; 7] = [
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000",
];

/// Pixels of a PNG to each unit of the SVG: 640 units across a column of 8.5 cm are 573 dots an inch.
const PNG_SCALE: f32 = 3.0;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;

/// A finished figure.
pub struct Figure {
    /// The name of its files.
    pub name: &'static str,
    /// What it shows, for the page.
    pub caption: String,
    pub svg: String,
    scene: kuva::render::render::Scene,
}

/// What is on the axes.
pub struct Axes<'a> {
    pub x: &'a str,
    pub y: &'a str,
    /// Whether the vertical axis begins at 0.
    pub from_zero: bool,
    /// Whether the horizontal axis counts.
    pub counts: bool,
}

impl Figure {
    pub fn new(name: &'static str, caption: String, plots: Vec<Plot>, axes: &Axes<'_>) -> Self {
        let mut layout = Layout::auto_from_plots(&plots)
            .with_width(WIDTH)
            .with_height(HEIGHT)
            .with_x_label(axes.x)
            .with_y_label(axes.y)
            .with_legend_position(LegendPosition::OutsideBottomColumns);
        if axes.from_zero {
            layout = layout.with_y_axis_min(0.0);
        }
        if axes.counts {
            layout = layout.with_x_tick_format(TickFormat::Integer);
        }
        let scene = render_multiple(plots, layout);
        let svg = kuva::backend::svg::SvgBackend::new().render_scene(&scene);
        Self {
            name,
            caption,
            svg,
            scene,
        }
    }

    pub fn png(&self) -> Result<Vec<u8>> {
        let png = PngBackend::new()
            .with_scale(PNG_SCALE)
            .render_scene(&self.scene);
        png.map_err(|error| anyhow::anyhow!("draw {}: {error}", self.name))
    }
}

/// The colour of the group at this place.
pub fn color(at: usize) -> &'static str {
    COLORS[at % COLORS.len()]
}

/// A curve, with its band where there is one.
pub fn curve(points: &[Point], label: &str, color: &str, dashed: bool) -> Vec<Plot> {
    let mut plots = Vec::new();
    if points.iter().any(|point| point.y.std.is_some()) {
        let edge = |sign: f64| {
            let at = move |point: &Point| point.y.mean + sign * point.y.std.unwrap_or(0.0);
            points.iter().map(at).collect::<Vec<f64>>()
        };
        let x: Vec<f64> = points.iter().map(|point| point.x).collect();
        plots.push(
            BandPlot::new(x, edge(-1.0), edge(1.0))
                .with_color(color)
                .into(),
        );
    }
    let line = LinePlot::new()
        .with_data(points.iter().map(|point| (point.x, point.y.mean)))
        .with_color(color)
        .with_stroke_width(2.0)
        .with_legend(label);
    plots.push(if dashed { line.with_dashed() } else { line }.into());
    plots
}

/// A box for each group, each over the same quantity of its devices.
pub fn boxes(groups: &[Group], values: impl Fn(&Group) -> Vec<f64>) -> Option<Plot> {
    let mut plot = BoxPlot::new()
        .with_width(0.5)
        .with_strip(0.25)
        .with_overlay_size(2.5);
    let mut colors = Vec::new();
    for (at, group) in groups.iter().enumerate() {
        let values = values(group);
        if !values.is_empty() {
            plot = plot.with_group(group.label.as_str(), values);
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

/// Parts that add up, a bar for each of `bars`.
pub fn stacks(bars: &[(String, Vec<f64>)], parts: &[&str]) -> Plot {
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

/// Cells of one colour scale: `[rows][columns]`.
pub fn heat(cells: &[Vec<u32>], label: &str) -> Plot {
    let rows = cells
        .iter()
        .map(|row| row.iter().map(|&cell| f64::from(cell)).collect::<Vec<_>>());
    Heatmap::new()
        .with_data(rows.collect::<Vec<_>>())
        .with_color_map(ColorMap::Viridis)
        .with_legend(label)
        .with_cell_size(1.0)
        .into()
}
