//! Hosts that lie, babble or fall silent: no answer of theirs may hang, crash or fool the channel.

use super::*;
use tokio::io::DuplexStream;

const STALL: Duration = Duration::from_millis(400);

/// A channel to a host that greets, and the host's end of it.
async fn channel() -> (Arc<Sftp>, DuplexStream) {
    let (ours, mut theirs) = tokio::io::duplex(1 << 20);
    let (from, to) = tokio::io::split(ours);
    let ended = async { Error::new(Kind::Unavailable, "gone") };
    let opening = tokio::spawn(Sftp::open(from, to, STALL, Wire::new(), ended));
    let mut greeting = [0; 9];
    theirs.read_exact(&mut greeting).await.unwrap();
    assert_eq!(greeting, [0, 0, 0, 5, kind::INIT, 0, 0, 0, 3]);
    theirs.write_all(&[0, 0, 0, 5, kind::VERSION, 0, 0, 0, 3]).await.unwrap();
    (Arc::new(opening.await.unwrap().unwrap()), theirs)
}

/// Takes one request and gives its kind and id.
async fn request(theirs: &mut DuplexStream) -> (u8, u32) {
    let packet = read_packet(theirs).await.unwrap();
    let mut fields = Fields(packet.slice(1..));
    (packet[0], fields.u32().unwrap())
}

async fn answer(theirs: &mut DuplexStream, packet: Packet) {
    theirs.write_all(&packet.finish(0)).await.unwrap();
}

async fn opened(sftp: &Arc<Sftp>, theirs: &mut DuplexStream) -> File {
    let reading = tokio::spawn({
        let sftp = sftp.clone();
        async move { sftp.open_read("x").await }
    });
    let (asked, id) = request(theirs).await;
    assert_eq!(asked, kind::OPEN);
    // A handle is any bytes, not text.
    answer(theirs, Packet::new(kind::HANDLE, id).string(&[0xff, 0, 0x80])).await;
    reading.await.unwrap().unwrap()
}

#[tokio::test]
async fn a_login_script_that_prints_is_named() {
    let (ours, mut theirs) = tokio::io::duplex(1 << 10);
    let (from, to) = tokio::io::split(ours);
    theirs.write_all(b"Welcome to the machine!\n").await.unwrap();
    let error = Sftp::open(from, to, STALL, Wire::new(), async { Error::new(Kind::Bug, "not asked") }).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.hint_text().unwrap().contains("login script"), "{error}");
}

#[tokio::test]
async fn why_a_program_ended_is_told_to_everybody_who_waits() {
    let (sftp, mut theirs) = channel().await;
    let asking = tokio::spawn({
        let sftp = sftp.clone();
        async move { sftp.stat("x").await }
    });
    request(&mut theirs).await;
    drop(theirs);
    assert_eq!(asking.await.unwrap().unwrap_err().message(), "gone");
    assert!(sftp.is_dead());
    assert_eq!(sftp.stat("y").await.unwrap_err().kind(), Kind::Unavailable);
}

#[tokio::test]
async fn silence_ends_a_channel_and_news_of_others_keeps_it() {
    let (sftp, mut theirs) = channel().await;
    let slow = tokio::spawn({
        let sftp = sftp.clone();
        async move { sftp.stat("slow").await }
    });
    let (_, slow_id) = request(&mut theirs).await;
    for _ in 0..4 {
        tokio::time::sleep(STALL / 2).await;
        let quick = tokio::spawn({
            let sftp = sftp.clone();
            async move { sftp.stat("quick").await }
        });
        let (_, id) = request(&mut theirs).await;
        answer(&mut theirs, Packet::new(kind::STATUS, id).u32(status::NO_SUCH_FILE)).await;
        assert_eq!(quick.await.unwrap().unwrap(), None);
    }
    answer(&mut theirs, Packet::new(kind::ATTRS, slow_id).u32(0)).await;
    assert_eq!(slow.await.unwrap().unwrap(), Some(Attrs::default()));
    // Nobody waits: silence means nothing.
    tokio::time::sleep(STALL * 2).await;
    assert!(!sftp.is_dead());
    let error = sftp.stat("never").await.unwrap_err();
    assert!(error.kind() == Kind::Unavailable && error.message().contains("silent"), "{error}");
}

#[tokio::test]
async fn short_answers_are_asked_for_again_and_long_ones_refused() {
    let (sftp, mut theirs) = channel().await;
    let file = Arc::new(opened(&sftp, &mut theirs).await);
    let reading = tokio::spawn({
        let file = file.clone();
        async move { file.read(100, 10).await }
    });
    for piece in [&b"abc"[..], b"defg", b"hij"] {
        let (asked, id) = request(&mut theirs).await;
        assert_eq!(asked, kind::READ);
        answer(&mut theirs, Packet::new(kind::DATA, id).string(piece)).await;
    }
    assert_eq!(reading.await.unwrap().unwrap(), "abcdefghij");
    for lie in [&b""[..], b"01234567890"] {
        let reading = tokio::spawn({
            let file = file.clone();
            async move { file.read(0, 10).await }
        });
        let (_, id) = request(&mut theirs).await;
        answer(&mut theirs, Packet::new(kind::DATA, id).string(lie)).await;
        assert_eq!(reading.await.unwrap().unwrap_err().kind(), Kind::Invalid);
    }
}

#[tokio::test]
async fn answers_to_nobody_and_of_the_wrong_kind_do_no_harm() {
    let (sftp, mut theirs) = channel().await;
    answer(&mut theirs, Packet::new(kind::DATA, 4_000_000).string(b"for whom?")).await;
    for wrong in [kind::DATA, kind::NAME, kind::VERSION, 77] {
        let asking = tokio::spawn({
            let sftp = sftp.clone();
            async move { sftp.stat("x").await }
        });
        let (_, id) = request(&mut theirs).await;
        answer(&mut theirs, Packet::new(wrong, id).u32(0)).await;
        assert_eq!(asking.await.unwrap().unwrap_err().kind(), Kind::Invalid);
    }
    assert!(!sftp.is_dead());
    // A length beyond everything ends it.
    theirs.write_all(&[0x7f, 0xff, 0xff, 0xff]).await.unwrap();
    assert_eq!(sftp.stat("x").await.unwrap_err().kind(), Kind::Invalid);
}

#[tokio::test]
async fn a_listing_without_an_end_of_names_is_refused() {
    let (sftp, mut theirs) = channel().await;
    let listing = tokio::spawn({
        let sftp = sftp.clone();
        async move { sftp.list("x").await }
    });
    let (_, id) = request(&mut theirs).await;
    answer(&mut theirs, Packet::new(kind::HANDLE, id).string(b"h")).await;
    let (_, id) = request(&mut theirs).await;
    answer(&mut theirs, Packet::new(kind::NAME, id).u32(u32::MAX).string(b"name").string(b"long").attrs(None, None)).await;
    assert_eq!(listing.await.unwrap().unwrap_err().kind(), Kind::Invalid);
    let (asked, _) = request(&mut theirs).await;
    assert_eq!(asked, kind::CLOSE, "what was opened is closed");
}
