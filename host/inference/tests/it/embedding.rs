//! Vectors: nearness follows meaning, and neighbours do not matter.

use crate::set::{minds, soon};

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[tokio::test]
async fn a_paraphrase_is_nearer_than_unrelated_text() {
    let minds = minds();
    let texts = [
        "How do I get my money back for a broken phone?",
        "I want a refund because the mobile I bought does not work.",
        "The mountains were covered in snow all winter.",
    ];
    let vectors = minds.embed(None, texts.map(str::to_owned).to_vec(), soon()).await.unwrap();
    let (near, far) = (cosine(&vectors[0], &vectors[1]), cosine(&vectors[0], &vectors[2]));
    assert!(near > 0.5 && far < 0.2, "paraphrase {near}, unrelated {far}");
}

#[tokio::test]
async fn vectors_have_length_one_and_do_not_depend_on_their_neighbours() {
    let minds = minds();
    let text = "The snail crossed the wall.".to_owned();
    let alone = minds.embed(None, vec![text.clone()], soon()).await.unwrap();
    let among = minds.embed(None, vec!["x ".repeat(2_000), text, String::new()], soon()).await.unwrap();
    assert_eq!(alone[0], among[1]);
    for vector in &among {
        assert_eq!(vector.len(), 384);
        assert!((cosine(vector, vector) - 1.0).abs() < 1e-4);
    }
}

#[tokio::test]
async fn no_texts_give_no_vectors() {
    assert_eq!(minds().embed(None, vec![], soon()).await.unwrap(), Vec::<Vec<f32>>::new());
}
