//! Puts what the resolver does next to what the model says.

use std::fmt::{self, Debug};

use proptest::test_runner::TestCaseError;
use tuyau_core::report::{Candidate, Outcome};
use tuyau_core::{Context, Dial, Report};

use crate::build::build;
use crate::case::{Case, DECLARED, ENDS, Had, KEYS, name};
use crate::keys::{BACKWARD, Event, FORWARD, Log, Opened, Peer, Pool, block_on};
use crate::model::{Class, Resolution, Session, Tried, Walk, What, World, resolve};
use crate::plan;
use crate::tally::{Features, Tally};

/// Where the resolver and the model disagree.
#[derive(Debug)]
pub(crate) struct Mismatch(String);

impl From<Mismatch> for TestCaseError {
    fn from(mismatch: Mismatch) -> Self {
        Self::fail(mismatch.0)
    }
}

/// Everything that the resolver says of `case` is what the model says of it.
pub(crate) fn check(case: &Case, tally: &mut Tally) -> Result<(), Mismatch> {
    let mut features = Features::default();
    let world = World::of(case, &mut features);
    let log = Log::default();
    let ctx = build(case, &FORWARD, &log);

    let planned = ctx.plan();
    check_plan(&planned, case, &world, &mut features)?;
    same_list("what plan ran", &log.take(), &[])?;

    for key in 0..KEYS {
        check_get(&ctx, key, &world, &log)?;
    }

    let model = resolve(case, &world, true, &mut features);
    check_resolve(&ctx, &FORWARD, &model, &log)?;

    let report = block_on(ctx.explain());
    same_list("what explain did", &log.take(), &model.events)?;
    check_report("explain", &report, &model)?;

    check_unfold(&ctx, case, &world, &log)?;

    for (root, candidate) in world.roots().iter().zip(&planned.candidates) {
        let never = |tried: &&Tried| tried.binding == root.binding && tried.class < Class::Refused;
        if let (Outcome::Refused(_), Some(tried)) = (&candidate.outcome, model.candidates.iter().find(never))
        {
            return differs("plan", &candidate.outcome, tried);
        }
    }

    // What a plan could know must have left room for what then happened.
    for tried in &model.candidates {
        let may = plan::of(&world, tried.binding);
        let room = match (tried.class, tried.endpoint) {
            (Class::Refused | Class::NotTried, _) => true,
            (Class::Absent, _) => may.be_absent,
            (Class::Connected | Class::Failed, Some(value)) => may.yield_ || may.be == Some(value),
            (Class::Connected | Class::Failed, None) => may.fail,
        };
        if !room {
            return differs("the model of plan and the model of resolve", &may, tried);
        }
    }

    tally.add(features);
    Ok(())
}

/// Other keys, of the same names and priorities, and offers in another order come to the same.
pub(crate) fn check_permuted(case: &Case) -> Result<(), Mismatch> {
    let mut features = Features::default();
    let world = World::of(case, &mut features);
    let model = resolve(case, &world, true, &mut features);
    for pool in [&FORWARD, &BACKWARD] {
        for case in [case, &case.with_offers_moved()] {
            let log = Log::default();
            let ctx = build(case, pool, &log);
            check_plan(&ctx.plan(), case, &world, &mut features)?;
            check_resolve(&ctx, pool, &model, &log)?;
        }
    }
    Ok(())
}

/// Values that come slowly come in an order of their own, but all of them come.
pub(crate) fn check_slow(case: &Case) -> Result<(), Mismatch> {
    let case = &case.slow_and_in_vain();
    let mut features = Features::default();
    let world = World::of(case, &mut features);
    let model = resolve(case, &world, true, &mut features);
    if !model.over_limit.is_empty() {
        // Which of them are tried then depends on the order.
        return Ok(());
    }
    let log = Log::default();
    let report = block_on(build(case, &FORWARD, &log).explain());
    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines
    };
    let lines = |events: &[Event]| sorted(events.iter().map(|event| format!("{event:?}")).collect());
    same_list("what explain did, sorted", &lines(&log.take()), &lines(&model.events))?;
    let row = |key: &str, class: &dyn Debug, endpoint: &dyn Debug| format!("{key} {endpoint:?} {class:?}");
    let candidates = report.candidates.iter().map(|candidate| {
        let (key, class) = class(candidate);
        row(&key, &class, &candidate.endpoint)
    });
    let tried = model.candidates.iter().map(|tried| {
        row(&name(tried.key), &Some(tried.class), &tried.endpoint.map(|value| value.to_string()))
    });
    same_list("explain's candidates, sorted", &sorted(candidates.collect()), &sorted(tried.collect()))
}

fn check_get(ctx: &Context, key: usize, world: &World, log: &Log) -> Result<(), Mismatch> {
    let mut session = Session::default();
    let mut features = Features::default();
    let (wanted, _) = Walk::new(world, &mut session, &mut features).lookup(key);
    let what = format!("get({})", name(key));
    let had = match key {
        ..ENDS => block_on(ctx.get(FORWARD.ends[key])).map(|peer| peer.map(|peer: Peer| peer.value)),
        _ => block_on(ctx.get(FORWARD.plain[key - ENDS])),
    };
    let had = match had {
        Ok(Some(value)) => Had::Value(value),
        Ok(None) => Had::Absent,
        Err(_) => Had::Failed,
    };
    same(&what, &had, &wanted)?;
    same_list(&format!("what {what} ran"), &log.take(), &session.events)
}

fn check_resolve(ctx: &Context, pool: &Pool, model: &Resolution, log: &Log) -> Result<(), Mismatch> {
    let result = block_on(ctx.resolve());
    same_list("what resolve did", &log.take(), &model.events)?;
    match (&result, &model.winner) {
        (Ok(resolved), Some(won)) => {
            same("the flow", &resolved.find().map(|opened: &Opened| opened.0), &Some(won.value))?;
            check_report("resolve", &resolved.report(), model)?;
            let root = model.candidates[won.candidate].key;
            for key in 0..KEYS {
                let wanted = match won.read.get(&key) {
                    _ if key == root => Some(won.value),
                    Some(Had::Value(value)) => Some(*value),
                    _ => None,
                };
                let what = format!("what the winner read for {}", name(key));
                let is = match key {
                    ..ENDS => resolved.get(pool.ends[key]).map(|peer: Peer| peer.value),
                    _ => resolved.get(pool.plain[key - ENDS]),
                };
                same(&what, &is, &wanted)?;
            }
            Ok(())
        }
        (Err(error), None) => check_report("resolve", &error.report(), model),
        (Ok(resolved), None) => differs("resolve", &resolved.find::<Opened>(), &"no winner"),
        (Err(error), Some(won)) => differs("resolve", error, &won.value),
    }
}

/// The endpoints of all candidates that have one, in order, and nothing connected.
fn check_unfold(ctx: &Context, case: &Case, world: &World, log: &Log) -> Result<(), Mismatch> {
    let model = resolve(case, world, false, &mut Features::default());
    let wanted = model.candidates.iter().filter(|tried| tried.class == Class::NotTried);
    let wanted: Vec<_> = wanted.filter_map(|tried| Some((name(tried.key), tried.endpoint?))).collect();
    let result = block_on(ctx.unfold());
    same_list("what unfold did", &log.take(), &model.events)?;
    let had = match &result {
        Ok(unfolded) => unfolded.endpoints(),
        Err(_) => &[],
    };
    let value =
        |dial: &Dial| FORWARD.ends.iter().find_map(|end| dial.endpoint(end)).map(|peer: Peer| peer.value);
    let had: Vec<_> = had.iter().map(|endpoint| endpoint.dial()).collect();
    let had: Vec<_> =
        had.iter().filter_map(|dial| Some((dial.key().name().to_owned(), value(dial)?))).collect();
    same_list("unfold's endpoint", &had, &wanted)
}

/// The candidates, in order, with their outcomes.
fn check_report(who: &str, report: &Report, model: &Resolution) -> Result<(), Mismatch> {
    let listed: Vec<_> = report.candidates.iter().map(class).collect();
    let wanted: Vec<_> = model.candidates.iter().map(|tried| (name(tried.key), Some(tried.class))).collect();
    same_list(&format!("{who}'s candidate"), &listed, &wanted)?;
    for (i, (candidate, tried)) in report.candidates.iter().zip(&model.candidates).enumerate() {
        let endpoint = tried.endpoint.map(|value| value.to_string());
        // Of one that was refused, a value shows that another candidate had derived.
        if endpoint.is_some() || tried.class != Class::Refused {
            same(&format!("the endpoint of {who}'s candidate {i}"), &candidate.endpoint, &endpoint)?;
        }
    }
    let limited: Vec<_> = report.notes.iter().filter(|note| note.contains("more choices")).cloned().collect();
    let over: Vec<_> = model.over_limit.iter().map(|key| name(*key)).collect();
    same(&format!("{who}'s notes of a limit, {limited:?}"), &limited.len(), &over.len())?;
    check_shape(who, report)?;
    same(&format!("{who}'s winner"), &report.winner, &model.winner.as_ref().map(|won| won.candidate))
}

/// Rows point at rows, none at itself however far, and all of it can be shown.
fn check_shape(who: &str, report: &Report) -> Result<(), Mismatch> {
    let rows = report.reads.len();
    let mut open: Vec<usize> = report.reads.iter().map(|read| read.needs.len()).collect();
    let mut dependents = vec![Vec::new(); rows];
    for (row, read) in report.reads.iter().enumerate() {
        for need in &read.needs {
            same(&format!("{who}: row {row} needs a row that is there"), &(*need < rows), &true)?;
            dependents[*need].push(row);
        }
    }
    let mut ready: Vec<usize> = (0..rows).filter(|row| open[*row] == 0).collect();
    let mut ordered = 0;
    while let Some(row) = ready.pop() {
        ordered += 1;
        for dependent in &dependents[row] {
            open[*dependent] -= 1;
            if open[*dependent] == 0 {
                ready.push(*dependent);
            }
        }
    }
    same(&format!("{who}: rows that don't depend on themselves"), &ordered, &rows)?;
    let needs = report.candidates.iter().flat_map(|candidate| &candidate.needs);
    same(
        &format!("{who}: candidates need rows that are there"),
        &needs.copied().all(|need| need < rows),
        &true,
    )?;
    let shown = [report.to_string(), format!("{report:#}"), report.dot().to_string()];
    same(&format!("{who} shows"), &shown.iter().any(String::is_empty), &false)
}

fn class(candidate: &Candidate) -> (String, Option<Class>) {
    let class = match candidate.outcome {
        Outcome::Connected => Some(Class::Connected),
        Outcome::Absent(_) => Some(Class::Absent),
        Outcome::Failed(_) => Some(Class::Failed),
        Outcome::Refused(_) => Some(Class::Refused),
        Outcome::NotTried => Some(Class::NotTried),
        _ => None,
    };
    (candidate.key.to_owned(), class)
}

/// One candidate for each binding; what is certain without running anything is said, and nothing
/// else is.
fn check_plan(report: &Report, case: &Case, world: &World, features: &mut Features) -> Result<(), Mismatch> {
    same("planned", &report.planned, &true)?;
    let roots = world.roots();
    let keys: Vec<_> = report.candidates.iter().map(|candidate| candidate.key.to_owned()).collect();
    same("plan's candidates", &keys, &roots.iter().map(|root| name(root.key)).collect())?;
    let mut protected = 0;
    for (candidate, root) in report.candidates.iter().zip(&roots) {
        let may = plan::of(world, root.binding);
        let protection = DECLARED[root.key].1;
        let downgrade = protection < protected && !case.allow_downgrade;
        let forbidden = downgrade || case.policy.forbids(root.key);
        if let Outcome::WouldConnect | Outcome::Failed(_) = candidate.outcome {
            // Its turn is certain to count, if it comes.
            protected = protected.max(protection);
        }
        let value = match root.what {
            What::Value(value) => Some(value.to_string()),
            _ => None,
        };
        same("a planned endpoint", &candidate.endpoint, &value)?;
        // Behind what is not known yet, a plan need not tell that a cycle will be come to.
        let hidden_cycle = may.cycle && may.unknown;
        let agrees = match &candidate.outcome {
            Outcome::Refused(_) => forbidden,
            _ if forbidden => false,
            Outcome::WouldConnect => may.be.is_some(),
            Outcome::WouldDerive => may.yield_ || hidden_cycle,
            Outcome::Absent(_) => !may.be_had() && (may.be_absent || hidden_cycle),
            Outcome::Failed(_) => !may.be_had() && may.fail && !may.be_absent,
            _ => false,
        };
        if !agrees {
            return differs(&format!("plan of #{}", root.binding), &candidate.outcome, &may);
        }
        features.saw(match &candidate.outcome {
            Outcome::WouldConnect => "planned to connect",
            Outcome::WouldDerive => "planned to derive",
            Outcome::Absent(_) => "planned to be absent",
            Outcome::Refused(_) => "planned to be refused",
            _ => "planned to fail",
        });
    }
    Ok(())
}

fn same<T: PartialEq + Debug>(what: &str, is: &T, should_be: &T) -> Result<(), Mismatch> {
    if is == should_be { Ok(()) } else { differs(what, is, should_be) }
}

/// Shows only where two lists part.
fn same_list<T: PartialEq + Debug>(what: &str, is: &[T], should_be: &[T]) -> Result<(), Mismatch> {
    for i in 0..is.len().max(should_be.len()) {
        same(
            &format!("{what} {i} (of {} and {})", is.len(), should_be.len()),
            &is.get(i),
            &should_be.get(i),
        )?;
    }
    Ok(())
}

fn differs(what: &str, is: &dyn Debug, should_be: &dyn Debug) -> Result<(), Mismatch> {
    Err(Mismatch(format!("{what}:\n  the resolver: {is:?}\n  the model:    {should_be:?}")))
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
