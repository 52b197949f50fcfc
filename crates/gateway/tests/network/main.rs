//! The network of sandboxes, between real sandboxes and an outside of the tests' own: no test needs the Internet, or speaks to anybody but itself.
//!
//! This program is also what its sandboxes begin in, so it has a `main` and runs its tests itself: `network [PART OF A NAME]…`. Tests that need sandboxes are passed over,
//! by name, where the machine has no root or no device to give.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod attacks;
mod names;
mod outside;
mod packets;
mod passing;
mod world;

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    process::ExitCode,
    time::{Duration, Instant},
};

use world::Sandboxes;

type Run = Pin<Box<dyn Future<Output = ()>>>;

/// Without a sandbox, or with them.
enum Test {
    Bare(fn() -> Run),
    Within(fn(&'static Sandboxes) -> Run),
}

macro_rules! bare {
    ($($module:ident :: $name:ident),* $(,)?) => { [$((stringify!($name), Test::Bare(|| Box::pin($module::$name())))),*] };
}
macro_rules! within {
    ($($module:ident :: $name:ident),* $(,)?) => { [$((stringify!($name), Test::Within(|all| Box::pin($module::$name(all))))),*] };
}

fn main() -> ExitCode {
    if let Some(code) = skep_sandbox::child() {
        return code;
    }
    let tests = bare![packets::malformed_packets_harm_nobody, packets::a_flood_of_openings_is_bounded].into_iter().chain(within![
        passing::a_page_is_fetched_by_its_name,
        passing::both_directions_arrive_whole,
        passing::an_end_of_one_side_is_told_to_the_other,
        passing::two_thousand_flows_at_once,
        passing::datagrams_pass_and_quic_is_refused,
        passing::echoes_are_answered,
        passing::rules_change_while_connections_are_open,
        passing::rules_that_change_while_a_connection_is_being_opened_hold_for_it,
        passing::the_device_is_had_again,
        passing::open_connections_that_are_silent_cost_nothing,
        attacks::nothing_inside_is_reached,
        attacks::no_listener_of_the_host_is_reached,
        attacks::a_redirect_leads_nowhere_inside,
        attacks::an_address_literal_with_a_forged_name_is_refused,
        attacks::another_name_than_the_resolved_one_is_refused,
        attacks::the_host_of_a_request_is_looked_at,
        names::a_name_that_turns_inward_has_no_address,
        names::a_tunnel_of_names_is_cut,
        names::only_addresses_are_answered,
        names::names_that_cannot_be_reached_are_not_asked_for,
    ]);
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let sandboxes: Option<&'static Sandboxes> = runtime.block_on(Sandboxes::set_up()).map(|all| &*Box::leak(Box::new(all)));
    let (mut failed, mut ran) = (0, 0);
    for (name, test) in tests.filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|part| name.contains(part))) {
        let began = Instant::now();
        let run = match (test, sandboxes) {
            (Test::Bare(test), _) => test(),
            (Test::Within(test), Some(sandboxes)) => test(sandboxes),
            (Test::Within(_), None) => {
                println!("test {name} ... passed over");
                continue;
            }
        };
        ran += 1;
        let in_time = async { tokio::time::timeout(Duration::from_secs(60), run).await.expect("it took more than a minute") };
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(in_time)));
        println!("test {name} ... {} ({} ms)", if outcome.is_ok() { "ok" } else { "FAILED" }, began.elapsed().as_millis());
        failed += u32::from(outcome.is_err());
    }
    println!("\n{ran} run, {failed} failed");
    // What a failed test left is removed, too; nothing that it started outlives this.
    if let Some(sandboxes) = sandboxes {
        runtime.block_on(sandboxes.remove());
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
