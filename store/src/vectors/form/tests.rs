use proptest::prelude::*;

use super::*;

#[test]
fn a_direction_is_kept_of_tiny_and_huge_vectors_and_refused_where_there_is_none() {
    for scale in [1e-30, 1.0, 1e30] {
        let place = Metric::Cosine.place(&[3.0 * scale, 4.0 * scale]).unwrap();
        assert!((place[0] - 0.6).abs() < 1e-6 && (place[1] - 0.8).abs() < 1e-6, "{scale}");
    }
    for vector in [vec![0.0, 0.0], vec![f32::NAN, 1.0], vec![f32::INFINITY, 1.0]] {
        assert!(matches!(Metric::Cosine.place(&vector), Err(VectorError::NotFinite)), "{vector:?}");
    }
}

#[test]
fn euclidean_takes_the_zero_vector_and_refuses_lengths_whose_squares_overflow() {
    assert_eq!(Metric::Euclidean.place(&[0.0, -0.0]).unwrap(), [0.0, -0.0]);
    for vector in [vec![1e19, 0.0], vec![f32::MAX, f32::MAX], vec![f32::NAN, 0.0]] {
        assert!(matches!(Metric::Euclidean.place(&vector), Err(VectorError::NotFinite)), "{vector:?}");
    }
}

#[test]
fn cosine_runs_from_the_same_way_to_the_opposite() {
    let unit = |vector: &[f32]| Metric::Cosine.place(vector).unwrap();
    let distance = |left: &[f32], right: &[f32]| Metric::Cosine.distance(&unit(left), &unit(right));
    let wide: Vec<f32> = (1..=19_u8).map(f32::from).collect();
    let opposite: Vec<f32> = wide.iter().map(|component| -component).collect();
    assert!(distance(&wide, &wide) < 1e-6);
    assert!((distance(&wide, &opposite) - 2.0).abs() < 1e-6);
    assert!((distance(&[1.0, 0.0], &[0.0, 1.0]) - 1.0).abs() < 1e-6);
}

#[test]
fn half_precision_refuses_what_it_cannot_hold() {
    let form = CollectionForm { dim: 2, metric: Metric::Euclidean, precision: Precision::Half };
    assert!(matches!(form.kept(vec![70_000.0, 0.0]), Err(VectorError::NotFinite)));
    assert_eq!(form.kept(vec![0.1, 65_504.0]).unwrap(), [0.099_975_586, 65_504.0]);
    // Too small for any bit of it: no direction is left.
    let form = CollectionForm { metric: Metric::Cosine, ..form };
    assert!(matches!(form.kept(vec![1e-9, 0.0]), Err(VectorError::NotFinite)));
}

proptest! {
    #[test]
    fn what_is_kept_is_read_back_and_keeping_it_again_changes_nothing(
        components in prop::collection::vec(-1000.0_f32..1000.0, 1..20),
        metric in prop::sample::select(vec![Metric::Cosine, Metric::Euclidean]),
        precision in prop::sample::select(vec![Precision::Full, Precision::Half]),
    ) {
        let form = CollectionForm { dim: components.len(), metric, precision };
        if let Ok(kept) = form.kept(components) {
            let bytes = precision.encode(&kept);
            prop_assert_eq!(bytes.len(), form.bytes());
            prop_assert_eq!(&precision.decode(&bytes), &kept);
            prop_assert_eq!(form.kept(kept.clone()).unwrap(), kept);
        }
    }

    #[test]
    fn euclidean_is_the_distance_that_schools_teach(
        pairs in prop::collection::vec((-1000.0_f32..1000.0, -1000.0_f32..1000.0), 1..40),
    ) {
        let (left, right): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
        let expected = pairs.iter().map(|(left, right)| f64::from(left - right).powi(2)).sum::<f64>().sqrt();
        let found = f64::from(Metric::Euclidean.distance(&left, &right));
        prop_assert!((found - expected).abs() <= expected * 1e-5 + 1e-6, "{found} {expected}");
    }
}
