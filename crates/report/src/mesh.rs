//! Pictures of meshes: nodes in their places, who hears whom, and the air time of each leaf.

use crate::draw::{Figure, color};
use crate::group::Group;
use crate::html::escape;
use crate::run::Run;
use std::fmt::Write;
use zfl_run_dir::MeshRecord;
use zfl_run_dir::metric::Id;

const AIR_S: Id = Id::of("radio_airtime_s");

/// Nodes beyond which a picture shows nothing.
const MAX_NODES: usize = 1000;

/// Distance beyond which a place is a mistake, in metres.
const FARTHEST_M: f64 = 1e9;

const WIDTH: f64 = 640.0;
const HIGHEST: f64 = 560.0;
const MARGIN: f64 = 44.0;

/// Room below the nodes for the scale, in units of the picture.
const BELOW: f64 = 34.0;

/// Radius of a leaf that sent nothing, and what the busiest has more.
const RADIUS: (f64, f64) = (6.0, 12.0);

/// A picture of each different mesh.
pub fn all(groups: &[Group]) -> Vec<Figure> {
    let runs = groups.iter().flat_map(|group| &group.runs);
    let mut drawn: Vec<&MeshRecord> = Vec::new();
    let mut figures = Vec::new();
    for run in runs {
        let Some(mesh) = run.fold.mesh().filter(|mesh| is_drawn(mesh)) else {
            continue;
        };
        if drawn.contains(&mesh) {
            continue;
        }
        drawn.push(mesh);
        let name = match drawn.len() {
            1 => "mesh".to_owned(),
            n => format!("mesh-{n}"),
        };
        figures.push(Figure {
            caption: caption(run, mesh),
            svg: picture(run, mesh),
            name,
        });
    }
    figures
}

fn is_drawn(mesh: &MeshRecord) -> bool {
    let mut places = mesh.places.iter().flatten();
    (2..=MAX_NODES).contains(&mesh.places.len()) && places.all(|at| at.abs() < FARTHEST_M)
}

fn caption(run: &Run, mesh: &MeshRecord) -> String {
    let most = mesh.hops.iter().max().copied().unwrap_or(0);
    let air = air_s(run).fold(0.0, |sum, (_, air_s)| sum + air_s);
    format!(
        "Mesh of {}: a gateway and {} leaves, up to {most} hops, radio {}. Lines join those that hear each other, dark \
         ones lead to the gateway. The area of a leaf grows with its time in the air, {air:.1} s of all together.",
        run.view.name,
        mesh.places.len() - 1,
        mesh.radio,
    )
}

/// Time in the air of each leaf in all rounds, in seconds.
fn air_s(run: &Run) -> impl Iterator<Item = (u32, f64)> {
    let devices = run.fold.devices();
    devices.filter_map(|device| Some((device.client, device.totals.over_rounds(AIR_S)?)))
}

/// Places in the picture, which keep their shape, and units to the metre.
fn spread(places: &[[f64; 2]]) -> (Vec<[f64; 2]>, f64) {
    let least = |axis: usize| {
        places
            .iter()
            .map(|place| place[axis])
            .fold(f64::MAX, f64::min)
    };
    let most = |axis: usize| {
        places
            .iter()
            .map(|place| place[axis])
            .fold(f64::MIN, f64::max)
    };
    let (least, size) = (
        [least(0), least(1)],
        [most(0) - least(0), most(1) - least(1)],
    );
    let room = [WIDTH - 2.0 * MARGIN, HIGHEST - 2.0 * MARGIN];
    let scale = (room[0] / size[0].max(1e-9)).min(room[1] / size[1].max(1e-9));
    let left = (WIDTH - scale * size[0]) / 2.0;
    let place = |place: &[f64; 2]| {
        [
            left + scale * (place[0] - least[0]),
            MARGIN + scale * (place[1] - least[1]),
        ]
    };
    (places.iter().map(place).collect(), scale)
}

fn picture(run: &Run, mesh: &MeshRecord) -> String {
    let (at, scale) = spread(&mesh.places);
    let lowest = at.iter().map(|place| place[1]).fold(0.0, f64::max);
    let height = lowest + MARGIN + BELOW;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height:.0}\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
         font-family=\"DejaVu Sans, sans-serif\" font-size=\"11\"><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"
    );
    for (a, b) in mesh.links() {
        let ([x1, y1], [x2, y2]) = (at[a], at[b]);
        let is_way = hops(mesh, a).abs_diff(hops(mesh, b)) == 1;
        let stroke = if is_way { "#8c959f" } else { "#e4e8ec" };
        let _ = write!(
            svg,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{stroke}\"/>"
        );
    }
    leaves(&mut svg, run, mesh, &at);
    scale_bar(&mut svg, mesh, scale, height);
    svg.push_str("</svg>");
    svg
}

fn hops(mesh: &MeshRecord, node: usize) -> u8 {
    mesh.hops.get(node).copied().unwrap_or(0)
}

/// Draws the gateway and the leaves, each with its number and in the colour of its hops.
fn leaves(svg: &mut String, run: &Run, mesh: &MeshRecord, at: &[[f64; 2]]) {
    let air: Vec<(u32, f64)> = air_s(run).collect();
    let most = air.iter().map(|(_, air_s)| *air_s).fold(1e-9, f64::max);
    let mut nodes = at.iter().enumerate();
    if let Some((_, [x, y])) = nodes.next() {
        let _ = write!(
            svg,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"24\" height=\"24\" rx=\"3\" fill=\"#1f2328\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#fff\">GW</text>",
            x - 12.0,
            y - 12.0,
            y + 4.0
        );
    }
    for (node, [x, y]) in nodes {
        let of_it = air.iter().find(|(client, _)| *client as usize + 1 == node);
        let share = of_it.map_or(0.0, |(_, air_s)| air_s / most);
        let (least, more) = RADIUS;
        let radius = least + more * share.max(0.0).sqrt();
        let fill = color(usize::from(hops(mesh, node).max(1)) - 1);
        let _ = write!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" fill=\"{fill}\" stroke=\"#fff\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#424a53\">{}</text>",
            y + radius + 12.0,
            node - 1
        );
    }
}

/// Draws the radio's range, as a length where there is room, and the colours of the hops.
fn scale_bar(svg: &mut String, mesh: &MeshRecord, scale: f64, height: f64) {
    let (y, length) = (height - 14.0, mesh.range_m * scale);
    if (1.0..=WIDTH / 2.0).contains(&length) {
        let _ = write!(
            svg,
            "<line x1=\"{MARGIN}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\" stroke=\"#1f2328\" stroke-width=\"2\"/>",
            MARGIN + length,
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{MARGIN}\" y=\"{:.1}\" fill=\"#1f2328\">{} reaches {:.0} m</text>",
        y - 5.0,
        escape(&mesh.radio),
        mesh.range_m.max(0.0),
    );
    let most = mesh.hops.iter().max().copied().unwrap_or(1).max(1);
    for hop in 1..=most.min(7) {
        let x = WIDTH - MARGIN - f64::from(most.min(7) - hop) * 62.0;
        let _ = write!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"5\" fill=\"{}\"/>\
             <text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"end\" fill=\"#1f2328\">{hop} hop{}</text>",
            x - 50.0,
            y - 4.0,
            color(usize::from(hop) - 1),
            if hop == 1 { "" } else { "s" },
        );
    }
}
