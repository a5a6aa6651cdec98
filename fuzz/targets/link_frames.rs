//! Any stream gives only messages that are written back as they were read, and a receiver finds the next
//! frame after any garbage. The first byte chooses: the rest is the stream, or a message in a sound frame.
#![no_main]

use fulcrum_plan::link::frame::{FRAME_LEN_MAX, Receiver, VERSION, decode, encode};
use fulcrum_plan::link::{Request, Response};
use libfuzzer_sys::fuzz_target;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

/// A message goes through the link and arrives as it was.
fn there_and_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(message: &T) {
    let mut buffer = [0; FRAME_LEN_MAX];
    let frame = encode(message, &mut buffer).expect("what was received fits a frame");
    let mut receiver = Receiver::<T>::default();
    let mut received = frame.iter().filter_map(|byte| receiver.push(*byte));
    assert_eq!(received.next().and_then(Result::ok).as_ref(), Some(message));
    assert_eq!(received.next(), None);
}

fn listen<T: Serialize + DeserializeOwned + PartialEq + Debug>(stream: &[u8]) {
    let mut receiver = Receiver::<T>::default();
    for byte in stream {
        if let Some(Ok(message)) = receiver.push(*byte) {
            there_and_back(&message);
        }
    }
    // Whatever came before: after a delimiter the next frame is found.
    receiver.push(0);
    let mut buffer = [0; FRAME_LEN_MAX];
    let hello = encode(&Request::Hello, &mut buffer).expect("a small message");
    let answers = hello.iter().filter_map(|byte| receiver.push(*byte)).count();
    assert_eq!(answers, 1);
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    if choice % 2 == 0 {
        listen::<Request>(rest);
        listen::<Response>(rest);
        return;
    }
    let body: Vec<u8> = [&[VERSION], rest].concat();
    let content = fulcrum_fuzz::with_checksum(&body);
    if let Ok(message) = decode::<Request>(&content) {
        there_and_back(&message);
    }
    if let Ok(message) = decode::<Response>(&content) {
        there_and_back(&message);
    }
});
