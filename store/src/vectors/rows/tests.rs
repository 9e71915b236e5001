use super::*;

#[test]
fn erased_rows_are_nobodys() {
    let row = Row { object: ObjectId::from_parts(0, 1), added: Position::new(1), metadata: Json::null() };
    let rows = Rows::of(vec![Row::erased(), row.clone(), Row::erased()]);
    assert_eq!((rows.newest(Row::erased().object), rows.newest(row.object)), (None, Some(1)));
    assert_eq!(rows.len(), 3);
}
