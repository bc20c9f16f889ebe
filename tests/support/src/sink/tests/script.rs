//! Scripted answers and rules, one by one.

use super::*;

#[test]
fn scripted_statuses_come_in_order_and_then_the_default() {
    let sink = Sink::start();
    sink.script([Answer::status(503), Answer::status_after(429, "3"), Answer::status_with_body(400, "no")]);
    let mut client = Client::of(&sink);
    let body = batch(&[event(1)]);
    assert_eq!(client.post(&body).unwrap().status, 503);
    let reply = client.post(&body).unwrap();
    assert!(reply.status == 429 && reply.head.contains("\r\nRetry-After: 3\r\n"), "{reply:?}");
    assert_eq!(client.post(&body).unwrap().body, "no");
    assert_eq!((sink.stored().len(), sink.script_left()), (0, 0));
    assert_eq!(client.post(&body).unwrap().status, 200);
    assert_eq!(client.post(&body).unwrap().status, 200);
    sink.assert_clean();
    sink.view(|journal| {
        assert_eq!((journal.stored().len(), journal.duplicates()), (1, 1));
        assert_eq!(journal.repeats_of_refused_batches(), 2);
    });
    sink.script([Answer::status(204)]);
    assert_eq!(client.post(&body).unwrap().body, "");
    assert_eq!(client.post(&body).unwrap().status, 200);
}

#[test]
fn a_script_stores_what_it_accepts_even_against_the_rules() {
    let sink = Sink::start();
    sink.script([Answer::status(200)]);
    let mut wrong = event(1);
    wrong["event"] = json!("");
    assert_eq!(Client::of(&sink).post(batch(&[wrong])).unwrap().status, 200);
    assert_eq!(sink.stored().len(), 1);
    assert_eq!(sink.violations(), [r#"request 0: batch[0] "": event is empty (400)"#]);
}

#[test]
fn answers_that_are_none() {
    // The answer, what the client sees, whether the events were stored.
    let table = [
        (Answer::ResetMidBody, ErrorKind::ConnectionReset, 0),
        (Answer::ResetAfterStoring, ErrorKind::ConnectionReset, 1),
        (Answer::HalfAnswer, ErrorKind::UnexpectedEof, 1),
        (Answer::Garbage, ErrorKind::InvalidData, 0),
        (Answer::CloseBeforeAnswer, ErrorKind::UnexpectedEof, 0),
    ];
    for (answer, kind, stored) in table {
        let sink = Sink::start();
        sink.script([answer.clone()]);
        let mut client = Client::of(&sink);
        let error = client.post(batch(&[event(1)])).unwrap_err();
        assert_eq!(error.kind(), kind, "{answer:?}");
        assert_eq!(sink.stored().len(), stored, "{answer:?}");
        assert_eq!((sink.requests().len(), sink.requests()[0].status), (1, None), "{answer:?}");
        let after = Client::of(&sink).post(batch(&[event(1)])).unwrap();
        assert_eq!(after.status, 200, "{answer:?}");
        sink.assert_clean();
    }
}

#[test]
fn a_large_body_is_reset_halfway() {
    let sink = Sink::start();
    sink.script([Answer::ResetMidBody]);
    let events: Vec<Value> = (0..20_000).map(event).collect();
    let body = batch(&events);
    assert!(Client::of(&sink).post(&body).is_err());
    assert!(sink.wait_for_requests(1, TIMEOUT));
    let half = sink.requests()[0].body.len();
    assert!(half > body.len() / 3 && half < body.len() * 2 / 3, "{half} of {}", body.len());
}

#[test]
fn html_looks_like_success_and_stores_nothing() {
    let sink = Sink::start();
    sink.script([Answer::Html200]);
    let reply = Client::of(&sink).post(batch(&[event(1)])).unwrap();
    assert_eq!((reply.status, reply.body.contains("<html>")), (200, true));
    assert!(sink.stored().is_empty());
}

#[test]
fn a_slow_answer_arrives_in_the_end() {
    let sink = Sink::start();
    sink.script([Answer::SlowDrip(Duration::from_micros(100))]);
    let mut client = Client::of(&sink);
    assert_eq!(client.post(batch(&[event(1)])).unwrap().status, 200);
    assert_eq!(client.post(batch(&[event(2)])).unwrap().status, 200);
    assert_eq!(sink.stored().len(), 2);
}

#[test]
fn a_silent_sink_has_read_the_request() {
    let sink = Sink::start();
    sink.script([Answer::NoAnswer]);
    let mut client = Client::of(&sink);
    client.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let error = client.post(batch(&[event(1)])).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    assert_eq!((sink.requests().len(), sink.stored().len()), (1, 0));
}

#[test]
fn a_kept_connection_can_turn_out_closed() {
    let sink = Sink::start();
    sink.script([Answer::CloseWithoutSayingSo]);
    let mut client = Client::of(&sink);
    let reply = client.post(batch(&[event(1)])).unwrap();
    assert_eq!((reply.status, reply.head.contains("Connection")), (200, false));
    assert!(client.post(batch(&[event(2)])).is_err());
    assert_eq!(sink.stored().len(), 1);
}

#[test]
fn a_client_that_closes_is_let_go() {
    let sink = Sink::start();
    let mut client = Client::of(&sink);
    let reply = client.post_with("/batch/", &[("Connection", "close")], batch(&[event(1)])).unwrap();
    assert_eq!(reply.status, 200);
    let mut rest = Vec::new();
    assert_eq!(client.stream.read_to_end(&mut rest).unwrap(), 0);
}

#[test]
fn rules_stand_until_they_are_cleared() {
    let sink = Sink::start();
    let mut poison = event(1);
    poison["event"] = json!("poison");
    sink.rule(Rule::poisoned_by("poison"));
    sink.rule(Rule::RefuseOver(1000));
    let mut client = Client::of(&sink);
    assert_eq!(client.post(batch(&[event(2), poison.clone()])).unwrap().status, 400);
    assert_eq!(client.post(batch(&[event(2), event(3), event(4), event(5), event(6)])).unwrap().status, 413);
    assert_eq!(client.post(batch(&[event(2)])).unwrap().status, 200);
    sink.clear_answers();
    assert_eq!(client.post(batch(&[poison.clone()])).unwrap().status, 200);
    sink.rule(Rule::custom(|request| (request.events.len() == 2).then_some(Answer::ResetAfterStoring)));
    sink.rule(Rule::Always(Answer::status(500)));
    assert_eq!(client.post(batch(&[poison])).unwrap().status, 500);
    assert_eq!(client.post(batch(&[event(7), event(8)])).unwrap_err().kind(), ErrorKind::ConnectionReset);
    sink.assert_clean();
    assert_eq!(sink.stored().len(), 4);
}

#[test]
fn two_batches_at_once_are_noticed() {
    let sink = Sink::start();
    let mut one = Client::of(&sink);
    one.send("POST /batch/ HTTP/1.1\r\nContent-Length: 1\r\n\r\n").unwrap();
    let mut two = Client::of(&sink);
    // The first one's head must have arrived; a second client's answer does not prove it, so this asks until it shows.
    for number in 0.. {
        two.post(batch(&[event(number)])).unwrap();
        if sink.view(Journal::most_at_once) == 2 {
            break;
        }
    }
}
