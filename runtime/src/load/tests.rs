//! A server of a few lines: it lets everybody wait at first, then answers in every way there is.

use super::*;
use crate::socket::protocol::{
    ANSWER_HEAD_LEN, CHOICE_LEN, REQUEST_HEAD_LEN, answer_head, hello, status_of,
};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

/// How long requests are sent, 3 ms apart.
const DURATION: Duration = Duration::from_millis(300);
const REQUESTS: usize = 100;

/// Lets so many requests come, answers them, and is gone.
fn serve(mut stream: UnixStream, count: usize) {
    stream.write_all(&hello(2, 1)).unwrap();
    stream.read_exact(&mut [0; CHOICE_LEN]).unwrap();
    let mut requests = vec![[0; REQUEST_HEAD_LEN + 8]; count];
    for request in &mut requests {
        stream.read_exact(request).unwrap();
    }
    for request in requests {
        let id = u64::from_le_bytes(*request.first_chunk().unwrap());
        let status = status_of((id % 5).saturating_sub(1) as u32).unwrap();
        let mut answer = answer_head(id, status, 7).to_vec();
        answer.resize(ANSWER_HEAD_LEN + 4, 0);
        stream.write_all(&answer).unwrap();
    }
}

/// Plays a load against a server of so many requests.
fn play(name: &str, count: usize) -> Outcome {
    let path = std::env::temp_dir().join(format!("fulcrum-load-{}-{name}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let serving = thread::spawn(move || serve(listener.accept().unwrap().0, count));
    let load = Load {
        times: (1_u64..).map(|n| n * 3_000_000),
        duration: DURATION,
        budget: Some(Duration::from_millis(1)),
        seed: 1,
        records: None,
    };
    let client = Client::connect(&path).unwrap();
    let outcome = load.run(client, &AtomicBool::new(false)).unwrap();
    serving.join().unwrap();
    std::fs::remove_file(&path).unwrap();
    outcome
}

#[test]
fn a_stall_is_not_hidden_by_requests_that_were_not_sent() {
    let outcome = play("stall", REQUESTS);
    // Due every 3 ms, whatever the server did meanwhile; of five, two are answered. The last two of these were due 9 ms
    // before the last request of all, and so before the stall ended.
    assert_eq!(outcome.broken, None);
    assert_eq!(outcome.sent, 100);
    assert_eq!((outcome.answered, outcome.late), (40, 40));
    assert_eq!([outcome.rejected, outcome.dropped, outcome.failed], [20; 3]);
    assert_eq!(outcome.lost, 0);
    // Half of them were due in the first half of the stall, and were answered after all of it.
    assert!(
        outcome.latency.quantile_ns(500_000) >= 140_000_000,
        "{outcome:?}"
    );
    assert_eq!(outcome.lag.count(), 100);
}

#[test]
fn a_connection_that_breaks_is_told_and_its_requests_are_lost() {
    let outcome = play("break", 10);
    assert!(outcome.broken.is_some());
    let told = outcome.answered + outcome.rejected + outcome.dropped + outcome.failed;
    assert_eq!(told + outcome.lost, outcome.sent);
    assert!(outcome.lost > 0 && told <= 10, "{outcome:?}");
}

#[test]
fn a_server_that_does_not_read_holds_up_nobody_for_good() {
    let path = std::env::temp_dir().join(format!("fulcrum-load-{}-deaf", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let serving = thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        // Samples of a megabyte: more than the kernel has room for.
        stream.write_all(&hello(1 << 18, 1)).unwrap();
        let mut answer = answer_head(999, Status::Rejected, 7).to_vec();
        answer.resize(ANSWER_HEAD_LEN + 4, 0);
        stream.write_all(&answer).unwrap();
        stream
    });
    let load = Load {
        times: 1..,
        duration: Duration::from_secs(1),
        budget: None,
        seed: 1,
        records: None,
    };
    let client = Client::connect(&path).unwrap();
    let outcome = load.run(client, &AtomicBool::new(false)).unwrap();
    assert!(outcome.broken.unwrap().contains("nobody waits for"));
    assert_eq!((outcome.sent, outcome.lost), (1, 1));
    drop(serving.join().unwrap());
    std::fs::remove_file(&path).unwrap();
}
