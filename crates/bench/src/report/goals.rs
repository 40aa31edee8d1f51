//! What is to be reached, as ratios within one run wherever the machine's speed would count.

use std::fmt;

use super::{Figures, Spread, number};
use crate::controls::bare;
use crate::controls::pgbench::{self, Way};
use crate::load::{Request, Skus};
use crate::options::Options;
use crate::store::On;
use crate::subjects::{
    before, brokers, cancelled, copies, cost, cut, growth, import, latency, lone, overload, sold_out, start, syncs,
    throughput,
};

/// Which side of a number is good.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "≥ {}", number(*least)),
            Self::AtMost(most) => write!(f, "≤ {}", number(*most)),
        }
    }
}

/// Something to reach, and how near the run came.
pub(crate) struct Goal {
    pub(crate) what: String,
    pub(crate) is: Spread,
    pub(crate) unit: &'static str,
    pub(crate) bound: Bound,
}

impl Goal {
    /// Whether the median is good enough.
    pub(crate) fn met(&self) -> bool {
        match self.bound {
            Bound::AtLeast(least) => self.is.median >= least,
            Bound::AtMost(most) => self.is.median <= most,
        }
    }
}

/// Collects goals whose figures were measured.
struct Goals<'a> {
    figures: &'a Figures,
    goals: Vec<Goal>,
}

impl Goals<'_> {
    fn add(&mut self, what: String, is: Option<Spread>, unit: &'static str, bound: Bound) {
        if let Some(is) = is {
            self.goals.push(Goal { what, is, unit, bound });
        }
    }

    /// One figure to another.
    fn ratio(&mut self, what: String, of: &str, to: &str, least: f64) {
        self.add(what, self.figures.ratio(of, to), "×", Bound::AtLeast(least));
    }

    /// A figure by itself.
    fn most(&mut self, name: &str, unit: &'static str, most: f64) {
        self.add(name.to_owned(), self.figures.spread(name), unit, Bound::AtMost(most));
    }
}

const PUT: Request = Request::Put(1);

/// All goals that this run has figures for.
pub(crate) fn all(figures: &Figures, options: &Options) -> Vec<Goal> {
    let mut goals = Goals { figures, goals: Vec::new() };
    against_the_limit(&mut goals);
    against_pgbench(&mut goals);
    if let Some(earlier) = &options.before {
        for (on, load) in On::BOTH.into_iter().flat_map(|on| before::LOADS.map(|load| (on, load))) {
            let (now, earlier) = (before::figure(on, load, None), before::figure(on, load, Some(earlier)));
            // One allocation may cost a tenth more than before at most.
            goals.ratio(format!("{now} : {earlier}"), &now, &earlier, 1.0 / 1.1);
        }
        let (now, earlier) = (before::instructions(None), before::instructions(Some(earlier)));
        goals.add(format!("{now} : {earlier}"), figures.ratio(&now, &earlier), "×", Bound::AtMost(1.1));
    }
    for on in On::BOTH {
        let subject = |skus| throughput::figure(on, PUT, skus, 256);
        let what = format!("{}, one SKU : 1,000 SKUs, 256 connections", on.name());
        goals.ratio(what, &subject(Skus::One), &subject(Skus::Even), 0.9);
        let what = format!("{}, 1,000 connections : 256", on.name());
        goals.ratio(what, &cost::rate(on), &cost::rate_of_fewer(on), 0.9);
        goals.ratio(format!("{}, import : B", on.name()), &import::figure(on), &import::control(on), 0.7);
        for (broker, _, least) in brokers::BROKERS {
            let (consumed, control) = (brokers::consumed(on, broker), brokers::control(on, broker));
            goals.ratio(format!("{consumed} : B"), &consumed, &control, 0.7);
            let relayed = brokers::relayed(on, broker);
            goals.add(relayed.clone(), figures.spread(&relayed), "events/s", Bound::AtLeast(least));
            goals.most(&brokers::delay(on, broker), "ms", 50.0);
        }
        goals.ratio(
            format!("{}, refusing what is sold out : C", on.name()),
            &sold_out::figure(on),
            sold_out::CONTROL,
            0.8,
        );
        goals.most(&sold_out::commits(on), "", 0.0);
        for &lines in growth::sizes(options.full) {
            for skus in [Skus::One, Skus::Even] {
                let what = format!("{}, {}, {} lines there : none", on.name(), skus.name(), number(super::real(lines)));
                goals.ratio(what, &growth::figure(on, skus, lines), &growth::figure(on, skus, 0), 0.9);
            }
        }
        let lines = cancelled::lines(options.full);
        let what = format!("{}, {} cancelled lines there : none", on.name(), number(super::real(lines)));
        let (with, without) = (cancelled::figure(on, lines), cancelled::figure(on, 0));
        goals.ratio(what, &with, &without, 0.9);
        goals.most(&cut::others(on), "ms", 1_000.0);
        goals.ratio(format!("{}, syncs : commits", on.name()), &syncs::syncs(on), &syncs::commits(on), 1.0);
        goals.most(&cost::memory(on), "MiB", 128.0);
        goals.most(&start::figure(on), "ms", 100.0);
    }
    goals.most(&latency::figure(On::Sqlite), "ms", 10.0);
    goals.most(&latency::figure(On::Postgres), "ms", 20.0);
    goals.ratio("two copies : one".into(), copies::TWO, copies::ONE, 0.95);
    let lone = figures.ratio(lone::FIGURE, &lone::control());
    let what = "a lone request, PostgreSQL : pgbench, five statements, one client";
    goals.add(what.into(), lone, "×", Bound::AtMost(1.3));
    goals.most(lone::FAR, "ms", 5.0);
    goals.ratio(format!("{} : what it can take", overload::USEFUL), overload::USEFUL, overload::CAPACITY, 0.9);
    goals.most(overload::REFUSED, "ms", 10.0);
    goals.most(overload::MEMORY, "MiB", 128.0);
    goals.most(start::SIZE, "MB", 25.0);
    goals.goals
}

fn against_the_limit(goals: &mut Goals<'_>) {
    for (on, connections, least) in
        [(On::Sqlite, 64, 0.6), (On::Sqlite, 256, 0.75), (On::Postgres, 64, 0.4), (On::Postgres, 256, 0.65)]
    {
        for skus in [Skus::One, Skus::Even] {
            let subject = throughput::figure(on, PUT, skus, connections);
            let what = format!("{subject} : L");
            goals.ratio(what, &subject, &throughput::limit(on, PUT, connections), least);
        }
    }
}

fn against_pgbench(goals: &mut Goals<'_>) {
    let figures = goals.figures;
    let best = |skus| figures.best(&pgbench::figures(Way::Cte, skus)).map(str::to_owned);
    let subject = |skus| throughput::figure(On::Postgres, PUT, skus, 256);
    if let Some(best) = best(Skus::Even) {
        for (on, least) in [(On::Postgres, 6.0), (On::Sqlite, 16.0)] {
            goals.ratio(format!("{} : {best} (best)", bare::figure(on)), &bare::figure(on), &best, least);
        }
        let what = format!("{} : {best} (best)", subject(Skus::Even));
        goals.ratio(what, &subject(Skus::Even), &best, 2.0);
    }
    let hot = subject(Skus::One);
    let at_32 = pgbench::figure(Way::Cte, Skus::One, 32);
    goals.ratio(format!("{hot} : {at_32}"), &hot, &at_32, 12.0);
    if let Some(best) = best(Skus::One) {
        goals.ratio(format!("{hot} : {best} (best)"), &hot, &best, 6.0);
    }
    // The goal is for 800 clients; where the server takes fewer, those stand for them.
    let clients = |name: &str| name.rsplit(", ").next()?.strip_suffix(" clients")?.parse::<u64>().ok();
    let of_cte = figures.iter().filter(|figure| figure.name.starts_with(&pgbench::figures(Way::Cte, Skus::One)));
    if let Some(most) = of_cte.map(|figure| figure.name.as_str()).max_by_key(|name| clients(name)) {
        goals.ratio(format!("{hot} : {most}"), &hot, most, 50.0);
    }
}
