//! Whether a history could have been one call after the other: the checker of Wing and Gong with Lowe's memory of where it was.

use std::collections::HashSet;

/// One call on a counter.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is added; 0 looks.
    pub amount: i64,
    /// When it was made, by a count of all that happened.
    pub from: u64,
    /// When it came back and with which total; `None`: nobody knows whether it happened.
    pub back: Option<(u64, i64)>,
}

/// Whether there is an order of the calls in which each happens between its beginning and its end, and gives what it gave.
pub fn linearizable(calls: &[Call]) -> bool {
    assert!(calls.len() <= 128, "a call is a bit");
    let all_back = calls.iter().enumerate().filter(|(_, call)| call.back.is_some()).fold(0_u128, |set, (n, _)| set | 1 << n);
    let (mut seen, mut todo) = (HashSet::new(), vec![(0_u128, 0_i64)]);
    while let Some((done, total)) = todo.pop() {
        if done & all_back == all_back {
            return true;
        }
        if !seen.insert((done, total)) {
            continue;
        }
        let open = |n: usize| done >> n & 1 == 0;
        // The next to happen began before every other that has not happened came back.
        let first_back = (0..calls.len()).filter(|n| open(*n)).filter_map(|n| calls[n].back).map(|(at, _)| at).min().unwrap_or(u64::MAX);
        for (n, call) in calls.iter().enumerate() {
            let after = total + call.amount;
            if open(n) && call.from < first_back && call.back.is_none_or(|(_, gave)| gave == after) {
                todo.push((done | 1 << n, after));
            }
        }
    }
    false
}

#[test]
fn accepts_what_can_be_put_in_order_and_nothing_else() {
    let call = |amount, from, back| Call { amount, from, back };
    assert!(linearizable(&[call(1, 0, Some((3, 2))), call(1, 1, Some((2, 1)))]), "at the same time");
    assert!(!linearizable(&[call(1, 0, Some((1, 2))), call(1, 2, Some((3, 1)))]), "one after the other");
    assert!(linearizable(&[call(5, 0, None), call(0, 1, Some((2, 0))), call(0, 3, Some((4, 5)))]), "an unknown one may happen late");
    assert!(linearizable(&[call(5, 0, None), call(0, 1, Some((2, 0)))]), "or never");
    assert!(!linearizable(&[call(5, 0, None), call(0, 1, Some((2, 5))), call(0, 3, Some((4, 0)))]), "but not be undone");
    assert!(!linearizable(&[call(5, 0, Some((1, 5))), call(0, 2, Some((3, 0)))]), "what was acknowledged is not lost");
}
