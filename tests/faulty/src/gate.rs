//! What a call goes through before it is forwarded, whatever it is about, and what is noted of it. No
//! PKCS#11 here, and no tokens.

use std::{
    collections::BTreeMap,
    process,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use cryptoki_sys::CK_RV;

use crate::{
    command::{Calls, Target},
    functions::Function,
};

/// Counts calls, and delays, stops and fails them.
pub(crate) struct Gate {
    state: Mutex<State>,
    /// More calls hang, or they were released.
    changed: Condvar,
}

struct State {
    counts: [u64; Function::ALL.len()],
    /// Spent in the real module.
    times: [Duration; Function::ALL.len()],
    delays: BTreeMap<Target, Duration>,
    faults: Vec<Fault>,
    /// Calls that hang and are not released.
    hanging: u64,
    /// How often calls were released. A call hangs until it changes.
    releases: u64,
}

struct Fault {
    target: Target,
    calls: Calls,
    effect: Effect,
}

#[derive(Clone, Copy)]
pub(crate) enum Effect {
    Fail(CK_RV),
    Hang,
    Die,
}

impl Gate {
    pub(crate) const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                counts: [0; Function::ALL.len()],
                times: [Duration::ZERO; Function::ALL.len()],
                delays: BTreeMap::new(),
                faults: Vec::new(),
                hanging: 0,
                releases: 0,
            }),
            changed: Condvar::new(),
        }
    }

    /// Lets a call through, in its time. One that is to hang and to fail does both.
    ///
    /// # Errors
    /// What it has to return instead.
    pub(crate) fn pass(&self, function: Function) -> Result<(), CK_RV> {
        let mut state = self.lock();
        state.counts[function as usize] += 1;
        let (hangs, failure) = state.meet(function);
        if hangs {
            state.hanging += 1;
            self.changed.notify_all();
            let since = state.releases;
            state = self
                .changed
                .wait_while(state, |state| state.releases == since)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(code) = failure {
            return Err(code);
        }
        let delay = state.delay(function);
        // Calls are slow side by side.
        drop(state);
        thread::sleep(delay);
        Ok(())
    }

    pub(crate) fn delay(&self, target: Target, time: Duration) {
        let mut state = self.lock();
        if time.is_zero() {
            state.delays.remove(&target);
        } else {
            state.delays.insert(target, time);
        }
    }

    pub(crate) fn inject(&self, target: Target, calls: Calls, effect: Effect) {
        self.lock().faults.push(Fault {
            target,
            calls,
            effect,
        });
    }

    pub(crate) fn release(&self) {
        let mut state = self.lock();
        state.releases += 1;
        state.hanging = 0;
        self.changed.notify_all();
    }

    /// Waits until `count` calls hang.
    ///
    /// # Errors
    /// How many do when `limit` is over.
    pub(crate) fn wait_hanging(&self, count: u64, limit: Duration) -> Result<(), u64> {
        let few = |state: &mut State| state.hanging < count;
        let (state, timeout) = self
            .changed
            .wait_timeout_while(self.lock(), limit, few)
            .unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return Err(state.hanging);
        }
        Ok(())
    }

    pub(crate) fn count(&self, target: Target) -> u64 {
        let state = self.lock();
        match target {
            Target::All => state.counts.iter().sum(),
            Target::One(function) => state.counts[function as usize],
        }
    }

    /// The functions that were called, with how often.
    pub(crate) fn counts(&self) -> Vec<(Function, u64)> {
        let counts = self.lock().counts;
        let all = Function::ALL.iter().copied().zip(counts);
        all.filter(|(_, count)| *count > 0).collect()
    }

    /// Takes note of how long a call was in the real module.
    pub(crate) fn took(&self, function: Function, time: Duration) {
        self.lock().times[function as usize] += time;
    }

    /// The functions that were forwarded, with the time in the real module.
    pub(crate) fn times(&self) -> Vec<(Function, Duration)> {
        let times = self.lock().times;
        let all = Function::ALL.iter().copied().zip(times);
        all.filter(|(_, time)| !time.is_zero()).collect()
    }

    pub(crate) fn clear(&self) {
        let mut state = self.lock();
        state.delays.clear();
        state.faults.clear();
        drop(state);
        self.release();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether this call hangs, and what it returns if it fails. Each fault counts each call, also one
    /// that another fault strikes; the oldest decides on the code.
    fn meet(&mut self, function: Function) -> (bool, Option<CK_RV>) {
        let (mut hangs, mut failure) = (false, None);
        for fault in &mut self.faults {
            if fault.target.covers(function) && fault.calls.meet() {
                match fault.effect {
                    Effect::Hang => hangs = true,
                    // Cleans nothing up.
                    Effect::Die => process::abort(),
                    Effect::Fail(code) => failure = failure.or(Some(code)),
                }
            }
        }
        self.faults.retain(|fault| !fault.calls.are_over());
        (hangs, failure)
    }

    fn delay(&self, function: Function) -> Duration {
        let of = |target| self.delays.get(&target).copied();
        of(Target::One(function))
            .or_else(|| of(Target::All))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const SIGN: Target = Target::One(Function::C_Sign);
    const NEXT: Calls = Calls {
        skip: 0,
        left: Some(1),
    };
    const LONG: Duration = Duration::from_secs(30);

    fn sign(gate: &Gate, calls: usize) -> Vec<Result<(), CK_RV>> {
        (0..calls).map(|_| gate.pass(Function::C_Sign)).collect()
    }

    #[test]
    fn the_nth_call_fails_and_is_counted() {
        let gate = Gate::new();
        sign(&gate, 2);
        let third = Calls {
            skip: 2,
            left: Some(1),
        };
        gate.inject(SIGN, third, Effect::Fail(0x30));
        assert_eq!(gate.pass(Function::C_Login), Ok(()));
        assert_eq!(sign(&gate, 4), [Ok(()), Ok(()), Err(0x30), Ok(())]);
        assert_eq!(gate.count(SIGN), 6);
        assert_eq!(gate.count(Target::All), 7);
        assert_eq!(
            gate.counts(),
            [(Function::C_Login, 1), (Function::C_Sign, 6)]
        );
    }

    #[test]
    fn times_add_up_by_function() {
        let gate = Gate::new();
        assert!(gate.times().is_empty());
        gate.took(Function::C_Sign, Duration::from_micros(3));
        gate.took(Function::C_Login, Duration::from_micros(2));
        gate.took(Function::C_Sign, Duration::from_micros(4));
        let expected = [(Function::C_Login, 2), (Function::C_Sign, 7)];
        let expected = expected.map(|(function, time)| (function, Duration::from_micros(time)));
        assert_eq!(gate.times(), expected);
    }

    #[test]
    fn faults_count_side_by_side() {
        let gate = Gate::new();
        let next_two = Calls {
            skip: 0,
            left: Some(2),
        };
        let from_second = Calls {
            skip: 1,
            left: None,
        };
        gate.inject(SIGN, next_two, Effect::Fail(0x30));
        gate.inject(Target::All, from_second, Effect::Fail(0x31));
        assert_eq!(sign(&gate, 3), [Err(0x30), Err(0x30), Err(0x31)]);
        gate.clear();
        assert_eq!(sign(&gate, 1), [Ok(())]);
    }

    #[test]
    fn what_is_said_of_a_function_counts_more_than_what_is_said_of_all() {
        let gate = Gate::new();
        let (short, long) = (Duration::from_micros(1), Duration::from_millis(20));
        gate.delay(Target::All, short);
        gate.delay(SIGN, long);
        let start = Instant::now();
        sign(&gate, 1).remove(0).unwrap();
        assert!(start.elapsed() >= long);
        assert_eq!(gate.lock().delay(Function::C_Login), short);
        gate.delay(SIGN, Duration::ZERO);
        assert_eq!(gate.lock().delay(Function::C_Sign), short);
        gate.clear();
        assert_eq!(gate.lock().delay(Function::C_Sign), Duration::ZERO);
    }

    #[test]
    fn calls_hang_until_they_are_released() {
        let gate = Gate::new();
        let next_two = Calls {
            skip: 0,
            left: Some(2),
        };
        gate.inject(SIGN, next_two, Effect::Hang);
        gate.inject(SIGN, NEXT, Effect::Fail(0x30));
        thread::scope(|scope| {
            let first = scope.spawn(|| sign(&gate, 1));
            gate.wait_hanging(1, LONG).unwrap();
            let second = scope.spawn(|| sign(&gate, 1));
            gate.wait_hanging(2, LONG).unwrap();
            assert_eq!(sign(&gate, 1), [Ok(())], "the third one passes");
            gate.release();
            assert_eq!(first.join().unwrap(), [Err(0x30)]);
            assert_eq!(second.join().unwrap(), [Ok(())]);
        });
        assert_eq!(gate.wait_hanging(1, Duration::ZERO), Err(0));
    }

    #[test]
    fn clearing_releases() {
        let gate = Gate::new();
        gate.inject(SIGN, NEXT, Effect::Hang);
        thread::scope(|scope| {
            scope.spawn(|| sign(&gate, 1));
            gate.wait_hanging(1, LONG).unwrap();
            gate.clear();
        });
    }
}
