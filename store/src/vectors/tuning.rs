//! Tuning: with which effort a graph is searched by those who ask for none.
//!
//! How many of the nearest a walk finds is a matter of the vectors: of clustered ones nearly all with the least effort,
//! of those in random directions with some more, and where lengths differ a thousandfold every row is better read. So
//! it is tried on the graph itself, once.
//! Never here: what a query wants, which rows it is shown.

use telos_graph::Graph;

use crate::limit;

/// How a graph is searched, and what that finds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tuning {
    /// None: every row is read, since no effort that is worth its cost finds enough.
    pub(crate) effort: Option<usize>,
    /// How many of the ten nearest that finds: an estimate.
    pub(crate) recall: Option<f32>,
}

impl Tuning {
    /// Tries a graph. Cost: reads all its rows for each that is tried. What is told to stop is not tuned.
    pub(crate) fn of(graph: &Graph, is_stopping: &dyn Fn() -> bool) -> Tuning {
        match graph.recalls(&limit::SEARCH_EFFORTS, is_stopping) {
            Some(recalls) => Tuning::choose(&recalls, effort_max(graph)),
            None => Tuning { effort: Some(limit::SEARCH_EFFORT_MIN), recall: None },
        }
    }

    /// As it was written down, whoever wrote that.
    pub(crate) fn known(effort: Option<u32>, recall: Option<f32>) -> Tuning {
        let effort = effort.map(|effort| usize::try_from(effort).unwrap_or(usize::MAX));
        let effort = effort.map(|effort| effort.clamp(limit::SEARCH_EFFORT_MIN, limit::SEARCH_EFFORT_MAX));
        Tuning { effort, recall }
    }

    fn choose(recalls: &[f32], effort_max: usize) -> Tuning {
        let tried = limit::SEARCH_EFFORTS.into_iter().zip(recalls);
        let enough = tried.take_while(|(effort, _)| *effort <= effort_max);
        match enough.into_iter().find(|(_, recall)| **recall >= limit::RECALL_MIN) {
            Some((effort, recall)) => Tuning { effort: Some(effort), recall: Some(*recall) },
            None => Tuning { effort: None, recall: Some(1.0) },
        }
    }
}

/// The effort past which reading every row costs less: a row on a walk costs as much as some thirty that are read in
/// order, and those that no walk finds are read whatever it is.
pub(crate) fn effort_max(graph: &Graph) -> usize {
    let on_walks = graph.rows().len().saturating_sub(graph.lost_directions());
    (on_walks / limit::WALK_COST).min(limit::SEARCH_EFFORT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(recalls: [f32; 3], effort_max: usize, effort: Option<usize>, recall: f32) {
        let chosen = Tuning { effort, recall: Some(recall) };
        assert_eq!(Tuning::choose(&recalls, effort_max), chosen, "{recalls:?} up to {effort_max}");
    }

    #[test]
    fn the_least_effort_that_finds_enough_is_chosen_while_it_costs_less_than_every_row() {
        check([0.99, 1.0, 1.0], 2_048, Some(64), 0.99);
        check([0.90, 0.97, 1.0], 2_048, Some(256), 0.97);
        check([0.42, 0.70, 0.96], 2_048, Some(1_024), 0.96);
        check([0.42, 0.70, 0.90], 2_048, None, 1.0);
        check([0.90, 0.97, 1.0], 128, None, 1.0);
        check([0.99, 1.0, 1.0], 63, None, 1.0);
    }
}
