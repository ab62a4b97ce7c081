use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Devices of which one takes every call.
#[derive(Default)]
struct One {
    lines: Mutex<Vec<Line>>,
    stirred: Mutex<u32>,
}

impl Callee for One {
    fn take(&self, device: u32, line: Line) -> bool {
        self.lines.lock().unwrap().push(line);
        device == 0
    }

    fn stir(&self, _: u32) {
        *self.stirred.lock().unwrap() += 1;
    }
}

fn open() -> (Door, Lines, Arc<One>) {
    let (door, lines) = exchange();
    let one = Arc::new(One::default());
    let weak: Weak<One> = Arc::downgrade(&one);
    lines.serve_by(weak);
    (door, lines, one)
}

#[test]
fn an_address_is_a_number_and_none_of_a_network_is() {
    for number in [0, 1, 99_999, u32::MAX] {
        assert_eq!(number_of(address_of(number)), Some(number));
    }
    for other in [
        "127.0.0.1:80",
        "[::1]:80",
        "[100::]:80",
        "[100::1:0:0:0:1]:80",
        "[fd00::1]:80",
    ] {
        assert_eq!(number_of(other.parse().unwrap()), None, "{other}");
    }
    assert_eq!(address_of(41).to_string(), "[100::2a]:80");
}

#[tokio::test]
async fn a_request_and_its_answer_go_through_a_call() {
    let (mut door, lines, one) = open();
    let mut line = lines.call(7).unwrap();
    assert_eq!(line.write(b"question"), Ok(Some(8)));
    let (mut stream, from) = door.accept().await.unwrap();
    assert_eq!(from, address_of(7));
    let mut asked = [0; 8];
    stream.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"question");
    let mut answer = [0; 16];
    assert_eq!(line.read(&mut answer), None);
    assert_eq!(*one.stirred.lock().unwrap(), 0);
    stream.write_all(b"answer").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(
        *one.stirred.lock().unwrap(),
        1,
        "once, since it waited once"
    );
    assert_eq!(line.read(&mut answer), Some(6));
    assert_eq!(line.read(&mut answer), Some(0), "the end");
}

#[tokio::test]
async fn a_stream_is_bounded_and_goes_on_when_there_is_room() {
    let (_door, lines, one) = open();
    let mut stream = lines.dial(0).unwrap();
    let sent: Vec<u8> = (0..3 * CAPACITY).map(|at| at as u8).collect();
    let writing = tokio::spawn(async move {
        stream.write_all(&sent).await.unwrap();
        sent
    });
    let mut line = one.lines.lock().unwrap().pop().unwrap();
    let (mut got, mut piece) = (Vec::new(), [0; 10_000]);
    loop {
        tokio::task::yield_now().await;
        match line.read(&mut piece) {
            Some(0) => break,
            Some(count) => got.extend_from_slice(&piece[..count]),
            None => {}
        }
    }
    assert!(got == writing.await.unwrap());
}

#[tokio::test]
async fn who_is_gone_is_found_out_by_the_other_side() {
    let (mut door, lines, one) = open();
    assert!(lines.dial(1).is_err(), "nobody takes it");
    one.lines.lock().unwrap().clear();
    // The device is gone in the middle.
    let mut stream = lines.dial(0).unwrap();
    one.lines.lock().unwrap().clear();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    let broken = stream.write_all(b"x").await.unwrap_err();
    assert_eq!(broken.kind(), io::ErrorKind::BrokenPipe);
    // The aggregator is.
    let mut line = lines.call(2).unwrap();
    assert_eq!(line.read(&mut [0; 8]), None);
    drop(door.accept().await);
    assert_eq!(*one.stirred.lock().unwrap(), 1);
    assert_eq!(line.read(&mut [0; 8]), Some(0));
    assert_eq!(line.write(b"x"), Err(Broken));
    drop(door);
    assert!(lines.call(2).is_none());
}
