use proptest::prelude::*;

use super::super::{CollectionForm, Metric, Precision};
use super::*;
use crate::id::ObjectName;

fn key() -> CollectionKey {
    CollectionKey { owner: ComponentId::operator(), name: ObjectName::new("notes").unwrap() }
}

prop_compose! {
    fn sealed()(
        dim in 1_usize..500,
        rows in prop::collection::vec((any::<u128>(), any::<u64>(), any::<u64>(), any::<u32>()), 0..20),
        links in prop::collection::vec(prop::collection::vec(any::<u32>(), 0..42), 0..20),
        entry in any::<u32>(),
    ) -> Sealed {
        let form = CollectionForm { dim, metric: Metric::Euclidean, precision: Precision::Half };
        let head = Head::new(&key(), form, "an engine".into());
        let (count_rows, nodes) = (u32::try_from(rows.len()).unwrap(), u32::try_from(links.len()).unwrap());
        let row = |(object, added, digest, node)| {
            SealedRow { object: ObjectId::from_bits(object), added: Position::new(added), digest, node }
        };
        let rows = rows.into_iter().map(row).collect();
        Sealed { head: Head { rows: count_rows, nodes, entry, ..head }, rows, links }
    }
}

fn encode(sealed: &Sealed) -> Vec<u8> {
    let mut bytes = encode_head(&sealed.head);
    sealed.rows.iter().for_each(|row| encode_row(*row, &mut bytes));
    sealed.links.iter().for_each(|links| encode_links(links.iter().copied(), &mut bytes));
    close(&mut bytes);
    bytes
}

proptest! {
    #[test]
    fn what_is_written_is_read(sealed in sealed()) {
        let bytes = encode(&sealed);
        prop_assert_eq!(Head::decode(&bytes), Ok(sealed.head.clone()));
        prop_assert_eq!(Sealed::decode(&bytes), Ok(sealed));
    }

    #[test]
    fn what_was_changed_is_refused(sealed in sealed(), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let mut bytes = encode(&sealed);
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        prop_assert!(Sealed::decode(&bytes).is_err());
        prop_assert!(Sealed::decode(&bytes[..at]).is_err());
    }

    /// With a checksum that fits: whoever wrote it meant it.
    #[test]
    fn whatever_is_in_it_is_read_or_refused(sealed in sealed(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = encode(&sealed);
        bytes.truncate(bytes.len() - CHECKSUM);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        close(&mut bytes);
        let _ = Sealed::decode(&bytes);
    }
}

#[test]
fn what_is_of_another_host_says_so() {
    let form = CollectionForm::of_first(3);
    let head = Head::new(&key(), form, String::new());
    let mut bytes = encode(&Sealed { head, rows: vec![], links: vec![] });
    bytes[8] = 2;
    assert_eq!(Sealed::decode(&bytes).unwrap_err().to_string(), "it is of version 2, and this host reads 1");
    assert_eq!(Sealed::decode(b"").unwrap_err().to_string(), "it is too short");
    assert!(Sealed::decode(&[7; 100]).unwrap_err().to_string().contains("begin"));
}
