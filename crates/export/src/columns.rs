//! Tables as Parquet: one row group, plain columns that may be null.

use crate::table::{Cells, Table};
use anyhow::Result;
use parquet::basic::{LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};
use std::io::Write;
use std::sync::Arc;

/// The file of a table.
pub(crate) fn parquet(table: &Table) -> Result<Vec<u8>> {
    let fields = table.columns.iter().map(|(name, cells)| field(name, cells));
    let schema = Type::group_type_builder(&table.name).with_fields(fields.collect::<Result<_>>()?);
    let properties = WriterProperties::builder()
        .set_created_by("zfl".to_owned())
        .build();
    let schema = Arc::new(schema.build()?);
    let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
    let mut rows = file.next_row_group()?;
    for (_, cells) in &table.columns {
        match cells {
            Cells::Whole(cells) => column::<Int64Type, _>(cells, |one| *one, &mut rows)?,
            Cells::Real(cells) => column::<DoubleType, _>(cells, |one| *one, &mut rows)?,
            Cells::Text(cells) => {
                column::<ByteArrayType, _>(cells, |one| ByteArray::from(one.as_str()), &mut rows)?;
            }
        }
    }
    rows.close()?;
    Ok(file.into_inner()?)
}

fn field(name: &str, cells: &Cells) -> Result<TypePtr> {
    let (physical, logical) = match cells {
        Cells::Whole(_) => (Physical::INT64, None),
        Cells::Real(_) => (Physical::DOUBLE, None),
        Cells::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
    };
    let field = Type::primitive_type_builder(name, physical)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(logical);
    Ok(Arc::new(field.build()?))
}

fn column<D: DataType, T>(
    cells: &[Option<T>],
    convert: impl Fn(&T) -> D::T,
    rows: &mut SerializedRowGroupWriter<'_, impl Write + Send>,
) -> Result<()> {
    let known: Vec<D::T> = cells.iter().flatten().map(convert).collect();
    let levels: Vec<i16> = cells.iter().map(|cell| i16::from(cell.is_some())).collect();
    if let Some(mut column) = rows.next_column()? {
        column
            .typed::<D>()
            .write_batch(&known, Some(&levels), None)?;
        column.close()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::file::reader::{FileReader, SerializedFileReader};

    #[test]
    fn a_table_is_read_back_with_its_types_and_its_gaps() {
        let table = Table {
            name: "rounds".to_owned(),
            columns: vec![
                ("round".to_owned(), Cells::Whole(vec![Some(0), Some(1)])),
                ("test_loss".to_owned(), Cells::Real(vec![None, Some(0.5)])),
                (
                    "outcome".to_owned(),
                    Cells::Text(vec![Some("late".into()), None]),
                ),
            ],
        };
        let bytes = parquet(&table).unwrap();
        assert_eq!(bytes, parquet(&table).unwrap());
        let file = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
        let rows = file.get_row_iter(None).unwrap();
        let rows: Vec<String> = rows.map(|row| row.unwrap().to_string()).collect();
        assert_eq!(
            rows,
            [
                "{round: 0, test_loss: null, outcome: \"late\"}",
                "{round: 1, test_loss: 0.5, outcome: null}"
            ]
        );
    }
}
