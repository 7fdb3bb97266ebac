//! Rows that the HSM has sealed: a MAC by a key that lies there covers every column, so that whoever can write
//! to the database cannot make, move, mix or edit one.

use std::ops::Deref;

use hsm::{Authenticated, Mac, StorageNumber};
use sqlx::query::Query;

use super::{Arguments, Db};

/// A row whose columns a MAC covers.
pub(crate) trait SealedRow {
    /// Its table, which no other table's rows can be taken for.
    const TABLE: &'static str;

    /// All columns, in the order of its statements, but for the MAC and the number of its key.
    fn columns(&self, columns: &mut Columns);

    /// Which row it is, for people.
    fn title(&self) -> String;

    /// What the MAC goes over.
    fn to_be_sealed(&self) -> Vec<u8> {
        let mut columns = Columns(vec![Column::Text(Some(Self::TABLE.to_owned()))]);
        self.columns(&mut columns);
        columns.encoded()
    }
}

/// Columns of a row.
pub(crate) struct Columns(Vec<Column>);

enum Column {
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
    Number(Option<u32>),
}

impl Columns {
    pub(crate) fn text(&mut self, text: &str) {
        self.optional_text(Some(text));
    }

    pub(crate) fn number(&mut self, number: u32) {
        self.optional_number(Some(number));
    }

    pub(crate) fn optional_number(&mut self, number: Option<u32>) {
        self.0.push(Column::Number(number));
    }

    /// Nothing is not the same as an empty text.
    pub(crate) fn optional_text(&mut self, text: Option<&str>) {
        self.0.push(Column::Text(text.map(str::to_owned)));
    }

    pub(crate) fn optional_bytes(&mut self, bytes: Option<&[u8]>) {
        self.0.push(Column::Bytes(bytes.map(<[u8]>::to_vec)));
    }

    /// Each with its length before it, so that none can be taken for a part of another.
    fn encoded(&self) -> Vec<u8> {
        let mut encoded = Vec::new();
        let mut add = |bytes: Option<&[u8]>| match bytes {
            Some(bytes) => {
                encoded.push(1);
                encoded.extend((bytes.len() as u64).to_be_bytes());
                encoded.extend(bytes);
            }
            None => encoded.push(0),
        };
        for column in &self.0 {
            match column {
                Column::Text(text) => add(text.as_ref().map(String::as_bytes)),
                Column::Bytes(bytes) => add(bytes.as_deref()),
                Column::Number(number) => add(number
                    .map(u32::to_be_bytes)
                    .as_ref()
                    .map(<[u8; 4]>::as_slice)),
            }
        }
        encoded
    }
}

/// Gives a statement all columns of a row, in their order, and then those of its seal.
pub(super) fn bound<'q, R: SealedRow>(
    mut statement: Query<'q, Db, Arguments>,
    row: &Sealed<R>,
) -> Query<'q, Db, Arguments> {
    let mut columns = Columns(Vec::new());
    row.row.columns(&mut columns);
    for column in columns.0 {
        statement = match column {
            Column::Text(text) => statement.bind(text),
            Column::Bytes(bytes) => statement.bind(bytes),
            Column::Number(number) => statement.bind(number.map(i64::from)),
        };
    }
    statement
        .bind(row.seal().map_or(0, Seal::number))
        .bind(row.seal().map(Seal::mac_bytes))
}

/// A row as it stands in the database, with its MAC, which nobody has verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sealed<R> {
    row: R,
    seal: Option<Seal>,
}

/// The MAC of a row, and by which key it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seal {
    pub(crate) number: StorageNumber,
    pub(crate) mac: Mac,
}

impl Seal {
    pub(super) fn number(&self) -> i64 {
        i64::from(self.number.get())
    }

    pub(super) fn mac_bytes(&self) -> Vec<u8> {
        self.mac.as_bytes().to_vec()
    }
}

impl<R: SealedRow> Sealed<R> {
    /// As it was read or as the HSM has sealed it. None was sealed in rows from before there were seals.
    pub(crate) const fn new(row: R, seal: Option<Seal>) -> Self {
        Self { row, seal }
    }

    /// The row, for what does not depend on it: it may be forged.
    pub(crate) const fn unproven(&self) -> &R {
        &self.row
    }

    /// Its seal, if it has one.
    pub(crate) const fn seal(&self) -> Option<&Seal> {
        self.seal.as_ref()
    }

    /// What the HSM has to verify; `None` if it has never sealed the row.
    pub(crate) fn authenticated(&self) -> Option<Authenticated> {
        let seal = self.seal.as_ref()?;
        Some(Authenticated {
            number: seal.number,
            bytes: self.row.to_be_sealed(),
            mac: seal.mac,
        })
    }

    /// The HSM has verified the row.
    pub(crate) fn into_proven(self, _: Verified) -> Proven<R> {
        Proven(self)
    }
}

/// Says that the HSM has verified MACs. Made by [`HostKeys`](crate::keys::HostKeys) alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verified(());

impl Verified {
    /// For [`HostKeys`](crate::keys::HostKeys), which has just had the HSM's answer.
    pub(crate) const fn by_hsm() -> Self {
        Self(())
    }
}

/// A row that is as the HSM has sealed it.
#[derive(Clone, Debug)]
pub(crate) struct Proven<R>(Sealed<R>);

impl<R> Proven<R> {
    /// With its seal.
    pub(crate) const fn sealed(&self) -> &Sealed<R> {
        &self.0
    }
}

impl<R> Deref for Proven<R> {
    type Target = R;

    fn deref(&self) -> &R {
        &self.0.row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Row<'a>(&'a [Option<&'a [u8]>]);

    impl SealedRow for Row<'_> {
        const TABLE: &'static str = "rows";

        fn columns(&self, columns: &mut Columns) {
            for column in self.0 {
                columns.optional_bytes(*column);
            }
        }

        fn title(&self) -> String {
            String::new()
        }
    }

    #[test]
    fn no_two_rows_have_the_same_bytes() {
        let rows: [&[Option<&[u8]>]; 8] = [
            &[],
            &[None],
            &[Some(b"")],
            &[None, None],
            &[Some(b"ab"), Some(b"c")],
            &[Some(b"a"), Some(b"bc")],
            &[Some(b"abc"), None],
            &[Some(b"abc")],
        ];
        for (index, row) in rows.iter().enumerate() {
            for other in &rows[index + 1..] {
                assert_ne!(Row(row).to_be_sealed(), Row(other).to_be_sealed());
            }
        }
    }
}
