//! The figures as a picture: SVG that any browser shows, in its light or dark colours.

use std::fmt::Write as _;

use crate::report::{NetworkPoint, Report, small};

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 440.0;
/// Of a panel's plot: left, right, top, bottom.
const PLOT: [f64; 4] = [64.0, WIDTH - 24.0, 104.0, HEIGHT - 56.0];
/// Between a panel's title and its legend, and between lines of that.
const LEGEND: [f64; 2] = [46.0, 18.0];

const STYLE: &str = "\
svg { background: #ffffff; font: 13px system-ui, sans-serif; }
text { fill: #24292f; } .faint { fill: #57606a; }
.title { font-weight: 600; font-size: 15px; }
.grid { stroke: #d0d7de; stroke-width: 1; }
.line { fill: none; stroke-width: 2; } .ideal { stroke-dasharray: 5 4; }
.a { stroke: #0969da; } .dot.a { fill: #0969da; }
.b { stroke: #bc4c00; } .dot.b { fill: #bc4c00; }
.c { stroke: #57606a; } .dot.c { fill: #57606a; }
@media (prefers-color-scheme: dark) {
svg { background: #0d1117; }
text { fill: #e6edf3; } .faint { fill: #9198a1; }
.grid { stroke: #30363d; }
.a { stroke: #58a6ff; } .dot.a { fill: #58a6ff; }
.b { stroke: #f0883e; } .dot.b { fill: #f0883e; }
.c { stroke: #9198a1; } .dot.c { fill: #9198a1; }
}";

/// Classes of colours, in the order of series.
const COLOURS: [&str; 3] = ["a", "b", "c"];

/// From values to places on paper.
#[derive(Clone, Copy)]
enum Scale {
    Linear,
    Logarithmic,
}

#[derive(Clone, Copy)]
struct Axis {
    scale: Scale,
    /// The least and the greatest value.
    values: [f64; 2],
    /// Where they are.
    places: [f64; 2],
}

impl Axis {
    /// Where a value is.
    fn place(&self, value: f64) -> f64 {
        let [from, to] = self.values.map(|value| self.stretch(value));
        let share = if to > from {
            (self.stretch(value) - from) / (to - from)
        } else {
            0.5
        };
        self.places[0] + share * (self.places[1] - self.places[0])
    }

    fn stretch(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Logarithmic => value.max(f64::MIN_POSITIVE).log10(),
        }
    }

    /// Round values that are marked.
    fn ticks(&self) -> Vec<f64> {
        let [from, to] = self.values;
        match self.scale {
            Scale::Linear => (0..=4)
                .map(|step| from + (to - from) * f64::from(step) / 4.0)
                .collect(),
            Scale::Logarithmic => std::iter::successors(Some(from), |tick| Some(tick * 10.0))
                .take_while(|tick| *tick <= to * 1.001)
                .collect(),
        }
    }
}

/// The least of 1, 2, 4, 6, 8, 10, 20, ... that is not below this: four parts of it are round too.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let round = [1.0, 2.0, 4.0, 6.0, 8.0].map(|factor| factor * power);
    round
        .into_iter()
        .find(|round| *round >= value)
        .unwrap_or(10.0 * power)
}

/// The power of ten at or below a value, or at or above it.
fn decades(values: impl Iterator<Item = f64> + Clone) -> [f64; 2] {
    let least = values.clone().fold(f64::INFINITY, f64::min).max(0.01);
    let most = values.fold(least, f64::max);
    [least.log10().floor(), most.log10().ceil()].map(|power| 10_f64.powf(power))
}

struct Series {
    name: String,
    colour: &'static str,
    /// Not measured: drawn with dashes and without dots.
    ideal: bool,
    points: Vec<[f64; 2]>,
}

struct Panel {
    title: String,
    x_title: &'static str,
    /// Marked values.
    x_ticks: Vec<f64>,
    y_scale: Scale,
    series: Vec<Series>,
}

/// The picture of a report.
pub(crate) fn chart(report: &Report) -> String {
    let panels = [load_panel(report), network_panel(&report.network_hsm)];
    let width = WIDTH * small(panels.len());
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" \
         width=\"{width}\" height=\"{HEIGHT}\" role=\"img\">\n\
         <title>Throughput of the key distribution host</title>\n<style>\n{STYLE}\n</style>\n"
    );
    for (number, panel) in panels.iter().enumerate() {
        let left = WIDTH * small(number);
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(svg, "<g transform=\"translate({left} 0)\">");
        panel.draw(&mut svg);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn load_panel(report: &Report) -> Panel {
    let levels = &report.deliveries;
    let measured = levels
        .iter()
        .map(|level| [small(level.terminals), level.per_s]);
    let measured: Vec<[f64; 2]> = measured.collect();
    let across = |value: f64| measured.iter().map(|[x, _]| [*x, value]).collect();
    let [raw, sealed] = [report.raw_sign_per_s, report.sealed_tokens_per_s];
    Panel {
        title: "Deliveries a second".to_owned(),
        x_title: "terminals at work",
        x_ticks: measured.iter().map(|[x, _]| *x).collect(),
        y_scale: Scale::Linear,
        series: vec![
            Series {
                name: format!("the host, {:.0} at the most", report.deliveries_per_s),
                colour: COLOURS[0],
                ideal: false,
                points: measured.clone(),
            },
            Series {
                name: format!("key tokens of its libraries alone: {sealed:.0}"),
                colour: COLOURS[1],
                ideal: true,
                points: across(sealed),
            },
            Series {
                name: format!("signatures of the HSM alone: {raw:.0}"),
                colour: COLOURS[2],
                ideal: true,
                points: across(raw),
            },
        ],
    }
}

fn network_panel(points: &[NetworkPoint]) -> Panel {
    let mut latencies: Vec<f64> = points.iter().map(|point| point.latency_ms).collect();
    latencies.sort_by(f64::total_cmp);
    latencies.dedup();
    let mut series = Vec::new();
    for (latency, colour) in latencies.into_iter().zip(COLOURS) {
        let of_latency = points
            .iter()
            .filter(|point| point.latency_ms.total_cmp(&latency).is_eq());
        let line = |figure: fn(&NetworkPoint) -> f64| {
            of_latency
                .clone()
                .map(|point| [small(point.sessions), figure(point)])
                .collect()
        };
        series.push(Series {
            name: format!("{latency} ms a call; dashes: sessions / (calls × latency)"),
            colour,
            ideal: false,
            points: line(|point| point.deliveries_per_s),
        });
        series.push(Series {
            name: String::new(),
            colour,
            ideal: true,
            points: line(|point| point.ideal_per_s),
        });
    }
    let mut x_ticks: Vec<f64> = points.iter().map(|point| small(point.sessions)).collect();
    x_ticks.sort_by(f64::total_cmp);
    x_ticks.dedup();
    Panel {
        title: "Deliveries a second with an HSM over a network".to_owned(),
        x_title: "sessions with the HSM",
        x_ticks,
        y_scale: Scale::Logarithmic,
        series,
    }
}

impl Panel {
    fn axes(&self) -> [Axis; 2] {
        let [left, right, top, bottom] = PLOT;
        let x = self.x_ticks.iter();
        let [first, last] = [x.clone().next(), x.clone().next_back()];
        let y = self
            .series
            .iter()
            .flat_map(|series| &series.points)
            .map(|[_, y]| *y);
        let y_values = match self.y_scale {
            Scale::Linear => [0.0, round_up(y.fold(0.0, f64::max))],
            Scale::Logarithmic => decades(y),
        };
        [
            Axis {
                scale: Scale::Logarithmic,
                values: [first, last].map(|value| value.copied().unwrap_or(1.0)),
                places: [left, right],
            },
            Axis {
                scale: self.y_scale,
                values: y_values,
                places: [bottom, top],
            },
        ]
    }

    fn draw(&self, svg: &mut String) {
        let [left, right, _, bottom] = PLOT;
        let [x, y] = self.axes();
        let _ = writeln!(
            svg,
            "<text class=\"title\" x=\"{left}\" y=\"26\">{}</text>",
            self.title
        );
        for tick in y.ticks() {
            let at = y.place(tick);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{left} {at:.1}H{right}\"/>\
                 <text class=\"faint\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>",
                left - 8.0,
                at + 4.0
            );
        }
        for tick in &self.x_ticks {
            let _ = writeln!(
                svg,
                "<text class=\"faint\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{tick}</text>",
                x.place(*tick),
                bottom + 20.0
            );
        }
        let _ = writeln!(
            svg,
            "<text class=\"faint\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            f64::midpoint(left, right),
            bottom + 42.0,
            self.x_title
        );
        let mut legend = LEGEND[0];
        for series in &self.series {
            series.draw(svg, x, y);
            if !series.name.is_empty() {
                series.explain(svg, left, legend);
                legend += LEGEND[1];
            }
        }
    }
}

impl Series {
    fn classes(&self) -> String {
        let ideal = if self.ideal { " ideal" } else { "" };
        format!("line {}{ideal}", self.colour)
    }

    fn draw(&self, svg: &mut String, x: Axis, y: Axis) {
        let places = self
            .points
            .iter()
            .map(|[at, value]| (x.place(*at), y.place(*value)));
        let line: Vec<String> = places
            .clone()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let (classes, line) = (self.classes(), line.join(" "));
        let _ = writeln!(svg, "<polyline class=\"{classes}\" points=\"{line}\"/>");
        if self.ideal {
            return;
        }
        for ((x, y), [_, value]) in places.zip(&self.points) {
            let colour = self.colour;
            let _ = writeln!(
                svg,
                "<circle class=\"dot {colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\">\
                 <title>{value:.1}</title></circle>"
            );
        }
    }

    fn explain(&self, svg: &mut String, left: f64, at: f64) {
        let (classes, name) = (self.classes(), &self.name);
        let (end, text) = (left + 24.0, left + 32.0);
        let _ = writeln!(
            svg,
            "<path class=\"{classes}\" d=\"M{left} {:.1}H{end}\"/>\
             <text x=\"{text}\" y=\"{at}\">{name}</text>",
            at - 4.0
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
    }

    fn axis(scale: Scale, values: [f64; 2]) -> Axis {
        let places = [300.0, 100.0];
        Axis {
            scale,
            values,
            places,
        }
    }

    #[test]
    fn values_have_their_places() {
        let linear = axis(Scale::Linear, [0.0, 400.0]);
        for (value, place) in [(0.0, 300.0), (100.0, 250.0), (400.0, 100.0)] {
            near(linear.place(value), place);
        }
        let logarithmic = axis(Scale::Logarithmic, [1.0, 100.0]);
        for (value, place) in [(1.0, 300.0), (10.0, 200.0), (100.0, 100.0)] {
            near(logarithmic.place(value), place);
        }
        near(axis(Scale::Logarithmic, [4.0, 4.0]).place(4.0), 200.0);
        assert!(logarithmic.place(0.0).is_finite());
    }

    #[test]
    fn axes_end_at_round_values() {
        for (value, round) in [
            (0.0, 1.0),
            (1.0, 1.0),
            (37.0, 40.0),
            (401.0, 600.0),
            (850.0, 1000.0),
        ] {
            near(round_up(value), round);
        }
        let [least, most] = decades([3.0, 250.0, 70.0].into_iter());
        near(least, 1.0);
        near(most, 1000.0);
        let ticks = axis(Scale::Logarithmic, [least, most]).ticks();
        assert_eq!(ticks.len(), 4);
        near(axis(Scale::Linear, [0.0, 400.0]).ticks()[1], 100.0);
    }

    #[test]
    fn a_panel_draws_what_was_measured_and_what_would_be_ideal() {
        let points = [(1, 10.0), (64, 300.0)]
            .map(|(sessions, per_s)| NetworkPoint::new(sessions, 5.0, 20.0, per_s));
        let panel = network_panel(&points);
        let mut svg = String::new();
        panel.draw(&mut svg);
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
