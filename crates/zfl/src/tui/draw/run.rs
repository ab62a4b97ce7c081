//! The run: curves, rounds, fleet where there is room, and the end of the log.

use super::{fleet, log, panel, title};
use crate::terminal::text::bytes;
use crate::tui::app::App;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::Line;
use ratatui::widgets::{Axis, Cell, Chart, Dataset, GraphType, Row, Table};
use zfl_run_dir::fold::{RoundRow, RunView};

/// Rows from which on the fleet is shown here too.
const TALL: u16 = 32;

/// Draws the view.
pub fn draw(frame: &mut Frame<'_>, area: Rect, app: &mut App, view: &RunView) {
    let charts_height = (area.height * 2 / 5).clamp(5, 16);
    let [charts, rest] =
        Layout::vertical([Constraint::Length(charts_height), Constraint::Fill(1)]).areas(area);
    curves(frame, charts, app, view);
    let (below, words) = if area.height >= TALL {
        parts(rest, 8)
    } else {
        parts(rest, rest.height.saturating_sub(6).clamp(3, 6))
    };
    log::end(frame, words, app);
    if area.height >= TALL && area.width >= 100 {
        let [table, grid] =
            Layout::horizontal([Constraint::Length(64), Constraint::Fill(1)]).areas(below);
        rounds(frame, table, app);
        fleet::grid(frame, grid, app);
    } else {
        rounds(frame, below, app);
    }
}

/// The area in two, the lower one of this height.
fn parts(area: Rect, lower: u16) -> (Rect, Rect) {
    let [upper, lower] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(lower)]).areas(area);
    (upper, lower)
}

fn curves(frame: &mut Frame<'_>, area: Rect, app: &App, view: &RunView) {
    let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).areas(area);
    let of = |value: fn(&RoundRow) -> Option<f64>| -> Vec<(f64, f64)> {
        let points = app
            .fold
            .rounds()
            .filter_map(|row| Some((row.record.round.into(), value(row)?)));
        points.filter(|(_, value)| value.is_finite()).collect()
    };
    let accuracy = of(|row| Some(100.0 * row.record.test_accuracy?));
    curve(
        frame,
        left,
        "Accuracy, %",
        &accuracy,
        100.0,
        view.rounds,
        Color::Green,
    );
    let loss = of(|row| row.record.test_loss);
    let top = loss.iter().fold(0.0, |top: f64, (_, loss)| top.max(*loss));
    curve(
        frame,
        right,
        "Loss, nats",
        &loss,
        round_up(top),
        view.rounds,
        Color::Magenta,
    );
}

fn curve(
    frame: &mut Frame<'_>,
    area: Rect,
    name: &str,
    points: &[(f64, f64)],
    top: f64,
    rounds: u32,
    color: Color,
) {
    let line = Dataset::default()
        .marker(Marker::Braille)
        .graph_type(GraphType::Line)
        .style(Style::new().fg(color))
        .data(points);
    let dim = Style::new().dark_gray();
    let last = f64::from(rounds.max(1));
    let label = |value: f64| {
        let digits = if top < 10.0 { 2 } else { 0 };
        Line::from(format!("{value:.digits$}"))
    };
    let x = Axis::default()
        .style(dim)
        .bounds([0.0, last])
        .labels(["0".to_owned(), format!("round {}", rounds.max(1))]);
    let y = Axis::default().style(dim).bounds([0.0, top]).labels([
        label(0.0),
        label(top / 2.0),
        label(top),
    ]);
    let chart = Chart::new(vec![line])
        .x_axis(x)
        .y_axis(y)
        .block(panel(title(name)));
    frame.render_widget(chart, area);
}

/// The next number for the end of an axis that is not below.
fn round_up(top: f64) -> f64 {
    let mut step = 0.1;
    while step < 1e9 {
        for factor in [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0] {
            if step * factor >= top {
                return step * factor;
            }
        }
        step *= 10.0;
    }
    1e9
}

fn rounds(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let head = Row::new(
        [
            "round", "accuracy", "loss", "results", "failures", "time", "up", "down",
        ]
        .map(|name| Cell::from(Line::from(name).right_aligned())),
    );
    let rows: Vec<_> = app.fold.rounds().map(row).collect();
    let room = usize::from(area.height.saturating_sub(3));
    let shown = rows.into_iter().rev().take(room);
    let widths = [5, 9, 7, 7, 8, 7, 6, 6].map(Constraint::Length);
    let table = Table::new(shown, widths)
        .header(head.bold())
        .column_spacing((area.width.saturating_sub(57) / 7).clamp(1, 4))
        .block(panel(title("Rounds, the newest first")));
    frame.render_widget(table, area);
}

fn row(row: &RoundRow) -> Row<'static> {
    let record = &row.record;
    let failures = Line::from(record.failures.to_string()).right_aligned();
    let failures = if record.failures > 0 {
        failures.yellow()
    } else {
        failures
    };
    let cell = |text: String| Cell::from(Line::from(text).right_aligned());
    let known = |text: Option<String>| cell(text.unwrap_or_else(|| "–".to_owned()));
    Row::new([
        cell(record.round.to_string()),
        known(
            record
                .test_accuracy
                .map(|share| format!("{:.2} %", 100.0 * share)),
        ),
        known(record.test_loss.map(|loss| format!("{loss:.4}"))),
        cell(record.results.to_string()),
        Cell::from(failures),
        cell(format!("{:.1} s", record.round_s)),
        cell(bytes(record.bytes_up)),
        cell(bytes(record.bytes_down)),
    ])
}
