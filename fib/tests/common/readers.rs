//! Readers beside the writer: what they hold up, and for how long.

use std::thread;
use std::time::{Duration, Instant};

use shunt_fib::{FibError, FibWriter, PoolUse};

use super::{Tested, at, hop, host, net};

/// Inserts and removes a host route in the `n`-th /24, which uses up one group.
fn churn<F: Tested>(writer: &mut FibWriter<F>, n: u32) -> Result<(), FibError> {
    let host = host::<F>(0x0a00_0000 | n << 8);
    writer.insert(host, hop(1))?;
    assert_eq!(writer.remove(host), Ok(Some(hop(1))));
    Ok(())
}

pub(crate) fn a_reader_that_is_never_quiescent_ends_in_an_error<F: Tested>() {
    let wait = Duration::from_millis(20);
    let mut writer = F::writer(4, 1, wait);
    let reader = writer.reader().unwrap();
    for n in 0..4 {
        churn::<F>(&mut writer, n).unwrap();
    }
    let before = (writer.len(), F::groups(&writer));
    for n in 4..8 {
        let start = Instant::now();
        let error = churn::<F>(&mut writer, n).unwrap_err();
        assert!(start.elapsed() >= wait);
        assert_eq!(
            error,
            FibError::PoolExhausted {
                pool: "groups",
                limit: 4,
                used: 0,
                held: 4,
                lagging: 1
            }
        );
        assert!(error.to_string().contains("quiescent()"));
        assert_eq!((writer.len(), F::groups(&writer)), before);
        assert_eq!(reader.lookup(at::<F>(0x0a00_0000 | n << 8).into()), None);
    }
    assert_eq!(writer.reclaim(), 0);

    reader.quiescent();
    assert!(writer.reclaim() >= 4);
    assert_eq!(
        F::groups(&writer),
        PoolUse {
            limit: 4,
            used: 0,
            retired: 0,
            touched: 4
        }
    );
    churn::<F>(&mut writer, 8).unwrap();
}

pub(crate) fn the_writer_waits_for_a_reader_that_comes<F: Tested>() {
    let mut writer = F::writer(1, 1, Duration::from_secs(60));
    let reader = writer.reader().unwrap();
    churn::<F>(&mut writer, 0).unwrap();
    let late = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        reader.quiescent();
        reader
    });
    let start = Instant::now();
    churn::<F>(&mut writer, 1).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(10));
    late.join().unwrap();
}

pub(crate) fn an_offline_reader_holds_nothing_up<F: Tested>() {
    let mut writer = F::writer(1, 1, Duration::ZERO);
    let reader = writer.reader().unwrap();
    writer.insert(net::<F>(0x0b00_0000, 8), hop(7)).unwrap();
    reader.offline();
    for n in 0..100 {
        churn::<F>(&mut writer, n).unwrap();
    }
    // Quiescent is not online.
    reader.quiescent();
    churn::<F>(&mut writer, 100).unwrap();
    churn::<F>(&mut writer, 101).unwrap();

    // A lookup is: the reader is waited for again.
    assert_eq!(reader.lookup(at::<F>(0x0b00_0001).into()), Some(hop(7)));
    churn::<F>(&mut writer, 102).unwrap();
    assert!(churn::<F>(&mut writer, 103).is_err());
    reader.offline();
    churn::<F>(&mut writer, 104).unwrap();

    let mut raw = [0u16];
    reader.lookup_batch(&[at::<F>(0x0b00_0001)], &mut raw);
    assert_eq!(raw, [8]);
    churn::<F>(&mut writer, 105).unwrap();
    assert!(churn::<F>(&mut writer, 106).is_err());
    reader.offline();
    reader.online();
    assert!(churn::<F>(&mut writer, 107).is_ok());
    assert!(churn::<F>(&mut writer, 108).is_err());
}

pub(crate) fn readers_are_counted_while_they_live<F: Tested>() {
    let mut writer = F::writer(1, 2, Duration::ZERO);
    let (first, second) = (writer.reader().unwrap(), writer.reader().unwrap());
    assert_eq!(
        writer.reader().unwrap_err(),
        FibError::ReadersExhausted { limit: 2 }
    );
    churn::<F>(&mut writer, 0).unwrap();
    drop(first);
    assert!(churn::<F>(&mut writer, 1).is_err());
    thread::spawn(move || drop(second)).join().unwrap();
    churn::<F>(&mut writer, 1).unwrap();
    let again = (writer.reader().unwrap(), writer.reader().unwrap());
    assert!(writer.reader().is_err());
    drop(again);
}

pub(crate) fn a_flush_waits_for_every_online_reader<F: Tested>() {
    let wait = Duration::from_millis(5);
    let mut writer = F::writer(2, 3, wait);
    writer.flush().unwrap();
    let (a, b) = (writer.reader().unwrap(), writer.reader().unwrap());
    assert_eq!(
        writer.flush(),
        Err(FibError::ReadersLagging {
            lagging: 2,
            waited: wait
        })
    );
    b.offline();
    churn::<F>(&mut writer, 0).unwrap();
    assert_eq!(
        writer.flush(),
        Err(FibError::ReadersLagging {
            lagging: 1,
            waited: wait
        })
    );
    // What was quiescent before a flush does not count for it.
    a.quiescent();
    assert!(writer.flush().is_err());
    assert_eq!(F::groups(&writer).retired, 0);
    a.offline();
    writer.flush().unwrap();
}

pub(crate) fn readers_outlive_the_writer<F: Tested>() {
    let mut writer = F::writer(1, 1, Duration::ZERO);
    let reader = writer.reader().unwrap();
    writer.insert(host::<F>(0x0a00_0001), hop(3)).unwrap();
    drop(writer);
    assert_eq!(reader.lookup(at::<F>(0x0a00_0001).into()), Some(hop(3)));
    reader.quiescent();
}
