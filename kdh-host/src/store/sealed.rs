//! Rows that the HSM has sealed: a MAC by a key that lies there covers every column, so that whoever can write
//! to the database cannot make, move, mix or edit one.

use std::ops::Deref;

use hsm::{Authenticated, Mac, StorageNumber};

/// A row whose columns a MAC covers.
pub(crate) trait SealedRow {
    /// Its table, which no other table's rows can be taken for.
    const TABLE: &'static str;

    /// All columns, always in the same order, but for the MAC and the number of its key.
    fn columns(&self, columns: &mut Columns);

    /// Which row it is, for people.
    fn title(&self) -> String;

    /// What the MAC goes over.
    fn to_be_sealed(&self) -> Vec<u8> {
        let mut columns = Columns(Vec::new());
        columns.text(Self::TABLE);
        self.columns(&mut columns);
        columns.0
    }
}

/// Columns as bytes: each with its length before it, so that none can be taken for a part of another.
pub(crate) struct Columns(Vec<u8>);

impl Columns {
    pub(crate) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(crate) fn number(&mut self, number: u32) {
        self.bytes(&number.to_be_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.0.push(1);
        self.0.extend((bytes.len() as u64).to_be_bytes());
        self.0.extend(bytes);
    }

    /// Nothing is not the same as an empty text.
    pub(crate) fn optional(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bytes(bytes),
            None => self.0.push(0),
        }
    }
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
                columns.optional(*column);
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
