//! The devices that a rollout comes to.

use std::collections::HashMap;

use sqlx::{AssertSqlSafe, Row as _, query::Query};

use super::{Reach, unsigned};
use crate::{
    names::{DeviceSerial, GroupName, Slot},
    state::DeviceState,
    store::{Row, StoreError, Tx},
};

/// A device as a rollout finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) serial: DeviceSerial,
    pub(crate) model: String,
    pub(crate) group: Option<GroupName>,
    pub(crate) state: DeviceState,
    /// The serial number of its encryption certificate, if it has one.
    pub(crate) certificate: Option<String>,
}

/// Devices of one model, in one group, in one state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cohort {
    pub(crate) model: String,
    pub(crate) group: Option<GroupName>,
    pub(crate) state: DeviceState,
    pub(crate) devices: u64,
}

/// What is read of a device, and from where.
const SEEN: &str = "d.serial_number, d.model, d.group_name, d.state, c.serial AS certificate";
const WITH_CERTIFICATE: &str =
    "LEFT JOIN certificates c ON c.device = d.serial_number AND c.purpose = 'ENCRYPTION'
         AND c.state = 'CURRENT'";

/// The states in which devices get no keys, as SQL has them.
fn left_alone() -> String {
    let states = DeviceState::ALL
        .iter()
        .filter(|state| state.is_left_alone());
    let states = states.map(|state| format!("'{}'", state.as_str()));
    format!("({})", states.collect::<Vec<_>>().join(", "))
}

impl Tx {
    /// Devices behind a serial number, in the order of serial numbers.
    pub(crate) async fn reached(
        &mut self,
        reach: &Reach,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Seen>, StoreError> {
        if let Reach::Devices(devices) = reach {
            let behind = devices.iter().filter(|device| device.as_str() > after);
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let page: Vec<_> = behind.take(limit).cloned().collect();
            return self.seen(&page).await;
        }
        let (condition, names) = self.condition(reach);
        let (behind, at_most) = (names.len() + 1, names.len() + 2);
        let sql = format!(
            "SELECT {SEEN} FROM devices d {WITH_CERTIFICATE}
             WHERE {condition} AND d.serial_number > ${behind} ORDER BY d.serial_number LIMIT ${at_most}"
        );
        names
            .into_iter()
            .fold(sqlx::query(AssertSqlSafe(sql)), Query::bind)
            .bind(after.to_owned())
            .bind(i64::from(limit))
            .fetch_all(self.connection().await?)
            .await?
            .iter()
            .map(read_seen)
            .collect()
    }

    /// A device has come to a profile, if its group or its model carries one: it is looked later whether its slots
    /// have keys.
    pub(crate) fn queue_for_filling(&mut self, device: &DeviceSerial) {
        self.later(
            "INSERT INTO devices_to_fill (device)
             SELECT d.serial_number FROM devices d WHERE d.serial_number = $1
                 AND EXISTS (SELECT 1 FROM key_profile_targets t WHERE (t.kind = 'GROUP' AND t.name = d.group_name)
                     OR (t.kind = 'MODEL' AND t.name = d.model))
             ON CONFLICT DO NOTHING",
        )
        .bind(device.to_string());
    }

    /// Devices that came to a profile, behind a serial number: but for those that get nothing as they stand now.
    pub(crate) async fn unfilled(
        &mut self,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Seen>, StoreError> {
        let sql = format!(
            "SELECT {SEEN} FROM devices d {WITH_CERTIFICATE}
                 JOIN devices_to_fill q ON q.device = d.serial_number
             WHERE q.device > $1 AND d.state NOT IN {}
             ORDER BY q.device LIMIT $2",
            left_alone()
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(after.to_owned())
            .bind(i64::from(limit))
            .fetch_all(self.connection().await?)
            .await?
            .iter()
            .map(read_seen)
            .collect()
    }

    /// It was looked whether their slots have keys.
    pub(crate) async fn unqueue(&mut self, devices: &[DeviceSerial]) -> Result<(), StoreError> {
        if devices.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "DELETE FROM devices_to_fill WHERE device IN {}",
            self.tuples(1, devices.len())
        );
        let statement = devices
            .iter()
            .fold(sqlx::query(AssertSqlSafe(sql)), |statement, device| {
                statement.bind(device.to_string())
            });
        statement.execute(self.connection().await?).await?;
        Ok(())
    }

    /// The same, of devices as they were when it was looked; `false` if one of them is not so any more: nothing of it is to
    /// stay then.
    pub(crate) async fn unqueue_as_seen(&mut self, seen: &[Seen]) -> Result<bool, StoreError> {
        let devices: Vec<_> = seen.iter().map(|seen| seen.serial.clone()).collect();
        if self.seen(&devices).await? != seen {
            return Ok(false);
        }
        self.unqueue(&devices).await?;
        Ok(true)
    }

    /// Devices that have had the newest live key of a slot since before a time, the oldest first, behind one of them.
    /// With the time of each.
    pub(crate) async fn due(
        &mut self,
        reach: &Reach,
        slot: &Slot,
        before: &str,
        (time, device): (&str, &str),
        limit: u32,
    ) -> Result<Vec<(String, Seen)>, StoreError> {
        let (condition, names) = self.condition(reach);
        let parameter = |number: usize| format!("${}", names.len() + number);
        let [of_slot, until, time_of, device_of, at_most] = [1, 2, 3, 4, 5].map(parameter);
        let left_alone = left_alone();
        let sql = format!(
            "SELECT k.created_at AS due_since, {SEEN}
             FROM device_keys k JOIN devices d ON d.serial_number = k.device {WITH_CERTIFICATE}
             WHERE {condition} AND k.slot = {of_slot} AND k.state IN ('PENDING', 'ACTIVE')
                 AND k.created_at <= {until} AND (k.created_at, k.device) > ({time_of}, {device_of})
                 AND d.state NOT IN {left_alone}
                 AND NOT EXISTS (SELECT 1 FROM device_keys n WHERE n.device = k.device AND n.slot = k.slot
                     AND n.version > k.version AND n.state IN ('PENDING', 'ACTIVE'))
             ORDER BY k.created_at, k.device LIMIT {at_most}"
        );
        names
            .into_iter()
            .fold(sqlx::query(AssertSqlSafe(sql)), Query::bind)
            .bind(slot.to_string())
            .bind(before.to_owned())
            .bind(time.to_owned())
            .bind(device.to_owned())
            .bind(i64::from(limit))
            .fetch_all(self.connection().await?)
            .await?
            .iter()
            .map(|row| Ok((row.try_get("due_since")?, read_seen(row)?)))
            .collect()
    }

    /// How many devices are reached, by what they have in common.
    pub(crate) async fn cohorts(&mut self, reach: &Reach) -> Result<Vec<Cohort>, StoreError> {
        let (condition, names) = self.condition(reach);
        let sql = format!(
            "SELECT d.model, d.group_name, d.state, COUNT(*) AS devices FROM devices d WHERE {condition}
             GROUP BY d.model, d.group_name, d.state"
        );
        names
            .into_iter()
            .fold(sqlx::query(AssertSqlSafe(sql)), Query::bind)
            .fetch_all(self.connection().await?)
            .await?
            .iter()
            .map(|row| {
                let devices = unsigned(row, "devices")?;
                Ok(Cohort {
                    devices,
                    ..read_cohort(row)?
                })
            })
            .collect()
    }

    /// What they hold in each slot: how many keys are confirmed, and how many are not.
    pub(crate) async fn held_by_cohort(
        &mut self,
        reach: &Reach,
    ) -> Result<HashMap<(Cohort, Slot), (u64, u64)>, StoreError> {
        let (condition, names) = self.condition(reach);
        let sql = format!(
            "SELECT d.model, d.group_name, d.state, k.slot,
                 COUNT(CASE WHEN k.state = 'ACTIVE' THEN 1 END) AS confirmed,
                 COUNT(CASE WHEN k.state = 'PENDING' THEN 1 END) AS pending
             FROM devices d JOIN device_keys k ON k.device = d.serial_number
             WHERE {condition} AND k.state IN ('PENDING', 'ACTIVE')
             GROUP BY d.model, d.group_name, d.state, k.slot"
        );
        names
            .into_iter()
            .fold(sqlx::query(AssertSqlSafe(sql)), Query::bind)
            .fetch_all(self.connection().await?)
            .await?
            .iter()
            .map(|row| {
                let slot: String = row.try_get("slot")?;
                let slot = Slot::parse(&slot).map_err(|_| StoreError::Damaged("device key"))?;
                let counts = (unsigned(row, "confirmed")?, unsigned(row, "pending")?);
                Ok(((read_cohort(row)?, slot), counts))
            })
            .collect()
    }

    /// These devices, in the order of serial numbers.
    pub(crate) async fn seen(&mut self, devices: &[DeviceSerial]) -> Result<Vec<Seen>, StoreError> {
        if devices.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT {SEEN} FROM devices d {WITH_CERTIFICATE}
             WHERE d.serial_number IN {} ORDER BY d.serial_number",
            self.tuples(1, devices.len())
        );
        self.about(sql, devices)
            .await?
            .iter()
            .map(read_seen)
            .collect()
    }

    /// Which devices are reached, as a condition on `devices d` and its parameters.
    fn condition(&self, reach: &Reach) -> (String, Vec<String>) {
        match reach {
            Reach::Model(name) => (
                "d.model = $1 AND (d.group_name IS NULL OR d.group_name NOT IN
                     (SELECT name FROM key_profile_targets WHERE kind = 'GROUP'))"
                    .to_owned(),
                vec![name.to_string()],
            ),
            Reach::Group(name) => ("d.group_name = $1".to_owned(), vec![name.to_string()]),
            Reach::Devices(devices) => (
                format!("d.serial_number IN {}", self.tuples(1, devices.len())),
                devices.iter().map(ToString::to_string).collect(),
            ),
            Reach::Any => ("1 = 0".to_owned(), Vec::new()),
        }
    }
}

fn read_seen(row: &Row) -> Result<Seen, StoreError> {
    let damaged = || StoreError::Damaged("device");
    let (serial, state): (String, String) = (row.try_get("serial_number")?, row.try_get("state")?);
    let group: Option<String> = row.try_get("group_name")?;
    let group = group.map(|name| GroupName::parse(&name).map_err(|_| damaged()));
    Ok(Seen {
        serial: DeviceSerial::parse(&serial).map_err(|_| damaged())?,
        model: row.try_get("model")?,
        group: group.transpose()?,
        state: DeviceState::parse(&state).ok_or_else(damaged)?,
        certificate: row.try_get("certificate")?,
    })
}

fn read_cohort(row: &Row) -> Result<Cohort, StoreError> {
    let damaged = || StoreError::Damaged("device");
    let (state, group): (String, Option<String>) =
        (row.try_get("state")?, row.try_get("group_name")?);
    let group = group.map(|name| GroupName::parse(&name).map_err(|_| damaged()));
    Ok(Cohort {
        model: row.try_get("model")?,
        group: group.transpose()?,
        state: DeviceState::parse(&state).ok_or_else(damaged)?,
        devices: 0,
    })
}
