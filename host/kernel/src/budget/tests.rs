use proptest::prelude::*;

use super::*;

fn component(text: &str) -> ComponentId {
    ComponentId::new(text).unwrap()
}

fn terms(tokens_per_minute: u32, requests_max: u32) -> InferenceTerms {
    InferenceTerms { tokens_per_minute, requests_max }
}

#[test]
fn a_minute_has_so_many_tokens_and_says_when_there_are_more() {
    let (ours, start) = (component("ours"), Instant::now());
    let mut budgets = InferenceBudgets::new(terms(600, 8));
    budgets.admit(&ours, 500, start).unwrap();
    assert_eq!(budgets.admit(&ours, 110, start), Err(Wait { time: Duration::from_secs(1) }));
    budgets.admit(&ours, 110, start + Duration::from_secs(1)).unwrap();
    assert_eq!(budgets.reading(&ours, start + Duration::from_secs(1)), Reading { tokens: 600, requests: 2 });
    budgets.admit(&component("other"), 600, start).unwrap();
}

#[test]
fn what_a_request_did_not_cost_comes_back_with_its_place() {
    let (ours, start) = (component("ours"), Instant::now());
    let mut budgets = InferenceBudgets::new(terms(600, 1));
    budgets.admit(&ours, 600, start).unwrap();
    assert_eq!(budgets.admit(&ours, 1, start), Err(Wait { time: PLACE_WAIT }));
    budgets.settle(&ours, 600, 5, start);
    assert_eq!(budgets.reading(&ours, start), Reading { tokens: 5, requests: 0 });
    assert_eq!(budgets.reading(&ours, start + Duration::from_secs(60)), Reading::default());
}

#[test]
fn more_than_a_minutes_worth_is_admitted_when_nothing_is_used_and_waited_for_afterwards() {
    let (ours, start) = (component("ours"), Instant::now());
    let mut budgets = InferenceBudgets::new(terms(60, 8));
    budgets.admit(&ours, 1, start).unwrap();
    assert_eq!(budgets.admit(&ours, 180, start), Err(Wait { time: Duration::from_secs(1) }));
    budgets.admit(&ours, 180, start + Duration::from_secs(1)).unwrap();
    assert_eq!(
        budgets.admit(&ours, 60, start + Duration::from_secs(1)),
        Err(Wait { time: Duration::from_secs(180) })
    );
}

#[derive(Clone, Debug)]
enum Act {
    /// Milliseconds pass.
    Pass(u64),
    Ask(u64),
    /// The oldest request ends, having cost so many hundredths of what it might.
    End(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => (0_u64..20_000).prop_map(Act::Pass),
        3 => (1_u64..500).prop_map(Act::Ask),
        2 => (0_u64..=100).prop_map(Act::End),
    ]
}

/// The same rules, a millisecond at a time.
struct Model {
    tokens_per_minute: u64,
    requests_max: usize,
    shares: i64,
    reserved: Vec<u64>,
}

impl Model {
    fn capacity(&self) -> i64 {
        i64::try_from(self.tokens_per_minute * 60_000).unwrap()
    }

    fn tick(&mut self) {
        self.shares = self.capacity().min(self.shares + i64::try_from(self.tokens_per_minute).unwrap());
    }

    /// Whether it may; if not for want of tokens, after how many milliseconds.
    fn ask(&mut self, cost: u64) -> Result<(), Option<u64>> {
        if self.reserved.len() >= self.requests_max {
            return Err(None);
        }
        let cost_shares = i64::try_from(cost * 60_000).unwrap();
        let (before, mut waited) = (self.shares, 0);
        while self.shares < cost_shares.min(self.capacity()) {
            self.tick();
            waited += 1;
        }
        if waited > 0 {
            self.shares = before;
            return Err(Some(waited));
        }
        self.shares -= cost_shares;
        self.reserved.push(cost);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_budget_decides_as_its_model_and_never_gives_more_than_time_refills(
        tokens_per_minute in 100_u32..400,
        requests_max in 1_u32..4,
        acts in prop::collection::vec(act(), 1..60),
    ) {
        let ours = component("ours");
        let mut budgets = InferenceBudgets::new(terms(tokens_per_minute, requests_max));
        let mut model = Model {
            tokens_per_minute: tokens_per_minute.into(),
            requests_max: requests_max as usize,
            shares: i64::from(tokens_per_minute) * 60_000,
            reserved: Vec::new(),
        };
        let start = Instant::now();
        let (mut now_ms, mut cost_in_all, mut largest) = (0, 0, 0);
        for act in acts {
            let now = start + Duration::from_millis(now_ms);
            match act {
                Act::Pass(ms) => {
                    now_ms += ms;
                    (0..ms).for_each(|_| model.tick());
                }
                Act::Ask(cost) => match (budgets.admit(&ours, cost, now), model.ask(cost)) {
                    (Ok(()), Ok(())) => {
                        cost_in_all += cost;
                        largest = largest.max(cost);
                    }
                    (Err(wait), Err(None)) => prop_assert_eq!(wait.time, PLACE_WAIT),
                    (Err(wait), Err(Some(ms))) => prop_assert_eq!(wait.time, Duration::from_millis(ms)),
                    (ours, models) => prop_assert!(false, "{:?}, the model says {:?}", ours, models),
                },
                Act::End(share) if !model.reserved.is_empty() => {
                    let reserved = model.reserved.remove(0);
                    let cost = reserved * share / 100;
                    cost_in_all -= reserved - cost;
                    model.shares = model.capacity().min(model.shares + i64::try_from((reserved - cost) * 60_000).unwrap());
                    budgets.settle(&ours, reserved, cost, now);
                }
                Act::End(_) => {}
            }
            let now = start + Duration::from_millis(now_ms);
            let requests = u32::try_from(model.reserved.len()).unwrap();
            prop_assert_eq!(budgets.reading(&ours, now).requests, requests);
            prop_assert!(requests <= requests_max);
            // A minute's worth, what was refilled since, and what one request may cost beyond a minute's worth.
            let per_minute = u64::from(tokens_per_minute);
            let allowed = per_minute + (per_minute * now_ms).div_ceil(60_000) + largest.saturating_sub(per_minute);
            prop_assert!(cost_in_all <= allowed, "{} tokens in {} ms, {} allowed", cost_in_all, now_ms, allowed);
        }
    }
}
