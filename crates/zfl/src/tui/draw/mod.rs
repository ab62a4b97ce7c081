//! The pictures.

mod device;
mod fleet;
mod log;
mod run;

use super::app::{App, Tab};
use crate::terminal::text::{clean, clock};
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear, Paragraph};
use zfl_run_dir::RoundPhase;
use zfl_run_dir::fold::{RunState, RunView, State};

/// Below this there is no room for anything that could be read.
const LEAST: (u16, u16) = (40, 10);

const KEYS: [(&str, &str); 8] = [
    ("tab, 1 2 3", "another view"),
    ("arrows", "another device; in the log: scroll"),
    ("home, end", "the first, the last"),
    ("pgup, pgdn", "in the log: scroll ten lines"),
    ("l", "the device's serial log, or not"),
    ("?", "these keys"),
    ("q, ctrl-c", "stop the run; once more: at once"),
    ("q, ctrl-c", "leave; the run goes on"),
];

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, app: &mut App) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = format!("zfl needs {} x {} characters", LEAST.0, LEAST.1);
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let view = app.fold.run(app.now_ms());
    let [head, body, foot] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    header(frame, head, app, &view);
    app.shows_serial = false;
    match app.tab {
        Tab::Run => run::draw(frame, body, app, &view),
        Tab::Fleet => fleet::draw(frame, body, app),
        Tab::Log => log::draw(frame, body, app),
    }
    footer(frame, foot, app);
    if app.help {
        help(frame, body, app);
    }
}

/// A frame around a part of the picture.
fn panel(title: impl Into<Line<'static>>) -> Block<'static> {
    Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(Style::new().dark_gray())
        .title(title.into())
}

/// A title, readable on the dim frame.
fn title(text: &str) -> Line<'static> {
    Line::from(Span::styled(
        format!(" {text} "),
        Style::new().add_modifier(Modifier::BOLD).fg(Color::Reset),
    ))
}

fn header(frame: &mut Frame<'_>, area: Rect, app: &App, view: &RunView) {
    let [first, second, third] = Layout::vertical([Constraint::Length(1); 3]).areas(area);
    let times = match view.eta_s {
        Some(eta_s) => format!("{}  ETA {} ", clock(view.elapsed_s), clock(eta_s)),
        None => format!("{} ", clock(view.elapsed_s)),
    };
    let (left, right) = sides(first, times.len());
    let name = Line::from(vec![
        Span::from(" zfl ").reversed().bold(),
        Span::from(format!(" {}  ", clean(&view.name))).bold(),
        phase(app, view),
    ]);
    frame.render_widget(Paragraph::new(name), left);
    let times = Paragraph::new(times).alignment(Alignment::Right);
    frame.render_widget(times, right);
    frame.render_widget(Paragraph::new(glance(view)), second);

    let tabs = tabs(app, view);
    let (left, right) = sides(third, usize::from(third.width).saturating_sub(tabs.width()));
    frame.render_widget(Paragraph::new(tabs), left);
    frame.render_widget(Paragraph::new(bar(progress(app, view), right.width)), right);
}

/// The area in two, the right one of this width.
fn sides(area: Rect, right: usize) -> (Rect, Rect) {
    let right = u16::try_from(right).unwrap_or(u16::MAX);
    let [left, right] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(right)]).areas(area);
    (left, right)
}

fn phase(app: &App, view: &RunView) -> Span<'static> {
    let text = match view.state {
        RunState::Finished => return Span::from("finished").green().bold(),
        RunState::Failed => return Span::from("failed").red().bold(),
        RunState::Interrupted => return Span::from("broken off").red().bold(),
        RunState::Running if app.stopping => return Span::from("stopping").yellow().bold(),
        RunState::Running => match view.phase {
            _ if view.states.contains_key("booting") && view.round == 0 => "booting",
            RoundPhase::WaitingForReady => "waits for devices",
            RoundPhase::CohortChosen => "starts devices",
            RoundPhase::Training => "training",
            RoundPhase::Aggregating => "aggregating",
            RoundPhase::Evaluating => "evaluating",
            RoundPhase::DevicesEvaluate => "devices evaluate",
            RoundPhase::Finished => "finishing",
        },
    };
    Span::from(text).cyan()
}

/// The run in one line.
fn glance(view: &RunView) -> Line<'static> {
    let mut parts = vec![Span::from(" ")];
    if let (Some(accuracy), Some(loss)) = (view.accuracy, view.loss) {
        let accuracy = 100.0 * accuracy;
        let learned = format!("accuracy {accuracy:.2} %  loss {loss:.4}  ");
        parts.push(Span::from(learned).bold());
    }
    let mut devices = format!(
        "{} devices: {} ready, {} training",
        view.clients, view.ready, view.training
    );
    if view.dead > 0 {
        devices += &format!(", {} dead", view.dead);
    }
    parts.push(Span::from(devices));
    Line::from(parts)
}

fn tabs(app: &App, view: &RunView) -> Line<'static> {
    let mut parts = vec![Span::from(" ")];
    for (number, tab) in (1..).zip(Tab::ALL) {
        let text = format!(" {number} {} ", tab.name());
        parts.push(if tab == app.tab {
            Span::from(text).reversed()
        } else {
            Span::from(text)
        });
    }
    // The last phase of a run bears the number of the last round, also if it ended before that.
    let round = match view.state {
        RunState::Running => view.round,
        _ => view.rounds_completed,
    };
    let round = format!("   round {round}/{} ", view.rounds);
    parts.push(Span::from(round).bold());
    Line::from(parts)
}

/// Progress of the run, from 0 to 1.
fn progress(app: &App, view: &RunView) -> f64 {
    let under_way = app.fold.devices().filter(|device| {
        device.round == view.round
            && view.round > view.rounds_completed
            && device.state >= State::Training
    });
    let (mut done, mut all) = (0.0, 0.0);
    for device in under_way {
        all += 1.0;
        done += match device.state {
            State::Training => {
                f64::from(device.done_examples) / f64::from(device.total_examples.max(1))
            }
            _ => 1.0,
        };
    }
    let part = if all > 0.0 { done / all } else { 0.0 };
    ((f64::from(view.rounds_completed) + part) / f64::from(view.rounds.max(1))).clamp(0.0, 1.0)
}

fn bar(done: f64, width: u16) -> Line<'static> {
    let width = usize::from(width.saturating_sub(8));
    let full = (done * width as f64) as usize;
    Line::from(vec![
        Span::from("━".repeat(full)).cyan(),
        Span::from("─".repeat(width - full)).dark_gray(),
        Span::from(format!(" {:>4.0} % ", 100.0 * done)),
    ])
}

fn footer(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let quit = match (app.owned, app.stopping) {
        (false, _) => "q leave",
        (true, false) => "q stop",
        (true, true) => "q stop at once",
    };
    let keys = match app.tab {
        Tab::Log => "↑↓ scroll",
        _ => "←↑↓→ device  l serial log",
    };
    let text = format!(" {quit}  tab view  {keys}  ? help");
    frame.render_widget(Paragraph::new(text).dark_gray(), area);
}

fn help(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let unfit = usize::from(app.owned);
    let keys = KEYS
        .iter()
        .enumerate()
        .filter(|(number, _)| *number != KEYS.len() - 2 + unfit);
    let mut lines: Vec<_> = keys
        .map(|(_, (key, what))| {
            Line::from(vec![
                Span::from(format!(" {key:<12}")).bold(),
                Span::from(format!("{what} ")),
            ])
        })
        .collect();
    lines.push(Line::default());
    lines.push(Line::from(" Devices:").bold());
    for states in State::ALL.chunks(3) {
        lines.push(Line::from(
            states
                .iter()
                .flat_map(|state| {
                    [
                        Span::from(" "),
                        fleet::letter(*state),
                        Span::from(format!(" {:<12}", state.name())),
                    ]
                })
                .collect::<Vec<_>>(),
        ));
    }
    let height = lines.len() as u16 + 2;
    let area = area.centered(
        Constraint::Length(52.min(area.width)),
        Constraint::Length(height.min(area.height)),
    );
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(panel(title("Keys"))), area);
}
