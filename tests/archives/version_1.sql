PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE environments (
    id TEXT PRIMARY KEY, content TEXT NOT NULL);
INSERT INTO "environments" VALUES('fb4c70c42678c92d','{"device": "fake"}');
CREATE TABLE members (
    study TEXT NOT NULL REFERENCES studies, trial INTEGER NOT NULL REFERENCES trials, PRIMARY KEY (study, trial))
    WITHOUT ROWID;
INSERT INTO "members" VALUES('7dd13a17b081e9c8',1);
INSERT INTO "members" VALUES('7dd13a17b081e9c8',2);
INSERT INTO "members" VALUES('7dd13a17b081e9c8',3);
INSERT INTO "members" VALUES('7dd13a17b081e9c8',4);
INSERT INTO "members" VALUES('7dd13a17b081e9c8',5);
INSERT INTO "members" VALUES('7dd13a17b081e9c8',6);
INSERT INTO "members" VALUES('7dd13a17b081e9c8',7);
INSERT INTO "members" VALUES('7dd13a17b081e9c8',8);
INSERT INTO "members" VALUES('7dd13a17b081e9c8',9);
INSERT INTO "members" VALUES('7dd13a17b081e9c8',10);
CREATE TABLE readings (
    trial INTEGER NOT NULL REFERENCES trials, step INTEGER NOT NULL, name TEXT NOT NULL, value REAL NOT NULL,
    PRIMARY KEY (trial, name, step)) WITHOUT ROWID;
INSERT INTO "readings" VALUES(1,1,'validation_error',0.5);
INSERT INTO "readings" VALUES(1,2,'validation_error',0.5);
INSERT INTO "readings" VALUES(1,3,'validation_error',0.5);
INSERT INTO "readings" VALUES(1,4,'validation_error',0.5);
INSERT INTO "readings" VALUES(1,5,'validation_error',0.5);
INSERT INTO "readings" VALUES(1,6,'validation_error',0.5);
INSERT INTO "readings" VALUES(1,7,'validation_error',0.5);
INSERT INTO "readings" VALUES(1,8,'validation_error',0.5);
INSERT INTO "readings" VALUES(1,9,'validation_error',0.5);
INSERT INTO "readings" VALUES(1,10,'validation_error',0.5);
INSERT INTO "readings" VALUES(1,12,'validation_error',0.5);
INSERT INTO "readings" VALUES(1,14,'validation_error',0.5);
INSERT INTO "readings" VALUES(1,16,'validation_error',0.5);
INSERT INTO "readings" VALUES(1,19,'validation_error',0.5);
INSERT INTO "readings" VALUES(2,19,'test_error',0.2);
INSERT INTO "readings" VALUES(2,1,'validation_error',0.5);
INSERT INTO "readings" VALUES(2,2,'validation_error',0.5);
INSERT INTO "readings" VALUES(2,3,'validation_error',0.5);
INSERT INTO "readings" VALUES(2,4,'validation_error',0.5);
INSERT INTO "readings" VALUES(2,5,'validation_error',0.5);
INSERT INTO "readings" VALUES(2,6,'validation_error',0.5);
INSERT INTO "readings" VALUES(2,7,'validation_error',0.5);
INSERT INTO "readings" VALUES(2,8,'validation_error',0.5);
INSERT INTO "readings" VALUES(2,9,'validation_error',0.5);
INSERT INTO "readings" VALUES(2,10,'validation_error',0.5);
INSERT INTO "readings" VALUES(2,12,'validation_error',0.5);
INSERT INTO "readings" VALUES(2,14,'validation_error',0.5);
INSERT INTO "readings" VALUES(2,16,'validation_error',0.5);
INSERT INTO "readings" VALUES(2,19,'validation_error',0.05);
INSERT INTO "readings" VALUES(3,1,'validation_error',0.5);
INSERT INTO "readings" VALUES(3,2,'validation_error',0.5);
INSERT INTO "readings" VALUES(3,3,'validation_error',0.5);
INSERT INTO "readings" VALUES(3,4,'validation_error',0.5);
INSERT INTO "readings" VALUES(4,19,'test_error',0.2);
INSERT INTO "readings" VALUES(4,1,'validation_error',0.5);
INSERT INTO "readings" VALUES(4,2,'validation_error',0.5);
INSERT INTO "readings" VALUES(4,3,'validation_error',0.5);
INSERT INTO "readings" VALUES(4,4,'validation_error',0.5);
INSERT INTO "readings" VALUES(4,5,'validation_error',0.5);
INSERT INTO "readings" VALUES(4,6,'validation_error',0.5);
INSERT INTO "readings" VALUES(4,7,'validation_error',0.5);
INSERT INTO "readings" VALUES(4,8,'validation_error',0.5);
INSERT INTO "readings" VALUES(4,9,'validation_error',0.5);
INSERT INTO "readings" VALUES(4,10,'validation_error',0.5);
INSERT INTO "readings" VALUES(4,12,'validation_error',0.5);
INSERT INTO "readings" VALUES(4,14,'validation_error',0.5);
INSERT INTO "readings" VALUES(4,16,'validation_error',0.5);
INSERT INTO "readings" VALUES(4,19,'validation_error',0.05);
INSERT INTO "readings" VALUES(5,1,'validation_error',0.5);
INSERT INTO "readings" VALUES(5,2,'validation_error',0.5);
INSERT INTO "readings" VALUES(5,3,'validation_error',0.5);
INSERT INTO "readings" VALUES(5,4,'validation_error',0.5);
INSERT INTO "readings" VALUES(5,5,'validation_error',0.5);
INSERT INTO "readings" VALUES(5,6,'validation_error',0.5);
INSERT INTO "readings" VALUES(5,7,'validation_error',0.5);
INSERT INTO "readings" VALUES(5,8,'validation_error',0.5);
INSERT INTO "readings" VALUES(5,9,'validation_error',0.5);
INSERT INTO "readings" VALUES(5,10,'validation_error',0.5);
INSERT INTO "readings" VALUES(5,12,'validation_error',0.5);
INSERT INTO "readings" VALUES(5,14,'validation_error',0.5);
INSERT INTO "readings" VALUES(5,16,'validation_error',0.5);
INSERT INTO "readings" VALUES(5,19,'validation_error',0.5);
INSERT INTO "readings" VALUES(6,12,'test_error',0.2);
INSERT INTO "readings" VALUES(6,1,'validation_error',0.5);
INSERT INTO "readings" VALUES(6,2,'validation_error',0.5);
INSERT INTO "readings" VALUES(6,3,'validation_error',0.5);
INSERT INTO "readings" VALUES(6,4,'validation_error',0.5);
INSERT INTO "readings" VALUES(6,5,'validation_error',0.5);
INSERT INTO "readings" VALUES(6,6,'validation_error',0.5);
INSERT INTO "readings" VALUES(6,7,'validation_error',0.5);
INSERT INTO "readings" VALUES(6,8,'validation_error',0.5);
INSERT INTO "readings" VALUES(6,9,'validation_error',0.5);
INSERT INTO "readings" VALUES(6,10,'validation_error',0.5);
INSERT INTO "readings" VALUES(6,12,'validation_error',0.05);
INSERT INTO "readings" VALUES(7,14,'test_error',0.2);
INSERT INTO "readings" VALUES(7,1,'validation_error',0.5);
INSERT INTO "readings" VALUES(7,2,'validation_error',0.5);
INSERT INTO "readings" VALUES(7,3,'validation_error',0.5);
INSERT INTO "readings" VALUES(7,4,'validation_error',0.5);
INSERT INTO "readings" VALUES(7,5,'validation_error',0.5);
INSERT INTO "readings" VALUES(7,6,'validation_error',0.5);
INSERT INTO "readings" VALUES(7,7,'validation_error',0.5);
INSERT INTO "readings" VALUES(7,8,'validation_error',0.5);
INSERT INTO "readings" VALUES(7,9,'validation_error',0.5);
INSERT INTO "readings" VALUES(7,10,'validation_error',0.5);
INSERT INTO "readings" VALUES(7,12,'validation_error',0.5);
INSERT INTO "readings" VALUES(7,14,'validation_error',0.05);
INSERT INTO "readings" VALUES(8,16,'test_error',0.2);
INSERT INTO "readings" VALUES(8,1,'validation_error',0.5);
INSERT INTO "readings" VALUES(8,2,'validation_error',0.5);
INSERT INTO "readings" VALUES(8,3,'validation_error',0.5);
INSERT INTO "readings" VALUES(8,4,'validation_error',0.5);
INSERT INTO "readings" VALUES(8,5,'validation_error',0.5);
INSERT INTO "readings" VALUES(8,6,'validation_error',0.5);
INSERT INTO "readings" VALUES(8,7,'validation_error',0.5);
INSERT INTO "readings" VALUES(8,8,'validation_error',0.5);
INSERT INTO "readings" VALUES(8,9,'validation_error',0.5);
INSERT INTO "readings" VALUES(8,10,'validation_error',0.5);
INSERT INTO "readings" VALUES(8,12,'validation_error',0.5);
INSERT INTO "readings" VALUES(8,14,'validation_error',0.5);
INSERT INTO "readings" VALUES(8,16,'validation_error',0.05);
INSERT INTO "readings" VALUES(9,22,'test_error',0.2);
INSERT INTO "readings" VALUES(9,1,'validation_error',0.5);
INSERT INTO "readings" VALUES(9,2,'validation_error',0.5);
INSERT INTO "readings" VALUES(9,3,'validation_error',0.5);
INSERT INTO "readings" VALUES(9,4,'validation_error',0.5);
INSERT INTO "readings" VALUES(9,5,'validation_error',0.5);
INSERT INTO "readings" VALUES(9,6,'validation_error',0.5);
INSERT INTO "readings" VALUES(9,7,'validation_error',0.5);
INSERT INTO "readings" VALUES(9,8,'validation_error',0.5);
INSERT INTO "readings" VALUES(9,9,'validation_error',0.5);
INSERT INTO "readings" VALUES(9,10,'validation_error',0.5);
INSERT INTO "readings" VALUES(9,12,'validation_error',0.5);
INSERT INTO "readings" VALUES(9,14,'validation_error',0.5);
INSERT INTO "readings" VALUES(9,16,'validation_error',0.5);
INSERT INTO "readings" VALUES(9,19,'validation_error',0.5);
INSERT INTO "readings" VALUES(9,22,'validation_error',0.05);
INSERT INTO "readings" VALUES(10,57,'test_error',0.2);
INSERT INTO "readings" VALUES(10,1,'validation_error',0.5);
INSERT INTO "readings" VALUES(10,2,'validation_error',0.5);
INSERT INTO "readings" VALUES(10,3,'validation_error',0.5);
INSERT INTO "readings" VALUES(10,4,'validation_error',0.5);
INSERT INTO "readings" VALUES(10,5,'validation_error',0.5);
INSERT INTO "readings" VALUES(10,6,'validation_error',0.5);
INSERT INTO "readings" VALUES(10,7,'validation_error',0.5);
INSERT INTO "readings" VALUES(10,8,'validation_error',0.5);
INSERT INTO "readings" VALUES(10,9,'validation_error',0.5);
INSERT INTO "readings" VALUES(10,10,'validation_error',0.5);
INSERT INTO "readings" VALUES(10,12,'validation_error',0.5);
INSERT INTO "readings" VALUES(10,14,'validation_error',0.5);
INSERT INTO "readings" VALUES(10,16,'validation_error',0.5);
INSERT INTO "readings" VALUES(10,19,'validation_error',0.5);
INSERT INTO "readings" VALUES(10,22,'validation_error',0.5);
INSERT INTO "readings" VALUES(10,26,'validation_error',0.5);
INSERT INTO "readings" VALUES(10,31,'validation_error',0.5);
INSERT INTO "readings" VALUES(10,37,'validation_error',0.5);
INSERT INTO "readings" VALUES(10,44,'validation_error',0.5);
INSERT INTO "readings" VALUES(10,52,'validation_error',0.5);
INSERT INTO "readings" VALUES(10,57,'validation_error',0.5);
CREATE TABLE studies (
    id TEXT PRIMARY KEY, workload TEXT NOT NULL, batch_size INTEGER NOT NULL, content TEXT NOT NULL,
    finished INTEGER NOT NULL DEFAULT 0);
INSERT INTO "studies" VALUES('7dd13a17b081e9c8','w',100,'{"model": "softmax", "dataset": "digits", "optimizer": "sgd", "schedule": "constant", "reading": "validation_error", "threshold": {"at_most": 0.1}, "max_steps": 1000, "trials": 4, "seeds": 5, "slack": 1.0, "probes": {}, "space": {"learning_rate": {"log_uniform": [0.01, 1.0]}}}',1);
CREATE TABLE suites (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL, text TEXT NOT NULL, planned TEXT NOT NULL);
INSERT INTO "suites" VALUES(1,'fake','
suite: fake
workloads:
  - name: w
    model: softmax
    dataset: digits
    optimizer: sgd
    batch_sizes: [100]
    target: {validation_error: {at_most: 0.1}}
    max_steps: 1000
    race: true
    evaluate: {resolution: 0.2}
    search: {trials: 4, learning_rate: {log_uniform: [0.01, 1]}}
    confirm: {seeds: 5}
','["7dd13a17b081e9c8"]');
CREATE TABLE trials (
    key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, phase TEXT NOT NULL, number INTEGER NOT NULL,
    metaparameters TEXT NOT NULL, init_seed INTEGER NOT NULL, order_seed INTEGER NOT NULL, max_steps INTEGER NOT NULL,
    environment TEXT NOT NULL REFERENCES environments, way TEXT, outcome TEXT, step INTEGER, train_seconds REAL);
INSERT INTO "trials" VALUES(1,'2d359b9018a74ec8','search',0,'{"learning_rate": 0.8618735228134581}',4956859585340350665,731865347402036655,1000,'fb4c70c42678c92d','one by one: it is a fake','overtaken',19,1.0);
INSERT INTO "trials" VALUES(2,'b81342300ed11ead','search',1,'{"learning_rate": 0.06653623886063983}',86196513880896179,731865347402036655,1000,'fb4c70c42678c92d','one by one: it is a fake','reached',19,1.0);
INSERT INTO "trials" VALUES(3,'e0cb22647243e197','search',2,'{"learning_rate": 0.01732811056066423}',4021926197070742726,731865347402036655,1000,'fb4c70c42678c92d','one by one: it is a fake','diverged',5,1.0);
INSERT INTO "trials" VALUES(4,'24a96d549b58fb90','search',3,'{"learning_rate": 0.10074770401190584}',4828595164422851087,731865347402036655,1000,'fb4c70c42678c92d','one by one: it is a fake','reached',19,1.0);
INSERT INTO "trials" VALUES(5,'ef4482a5cb2eb2cd','search',4,'{"learning_rate": 0.19124730879927643}',9146416700645397724,731865347402036655,1000,'fb4c70c42678c92d','one by one: it is a fake','overtaken',19,1.0);
INSERT INTO "trials" VALUES(6,'d8b611f6d864a69f','confirm',0,'{"learning_rate": 0.06653623886063983}',8668806585840310811,2670732448131714944,57,'fb4c70c42678c92d','one by one: it is a fake','reached',12,1.0);
INSERT INTO "trials" VALUES(7,'113559d0ce9c3e19','confirm',1,'{"learning_rate": 0.06653623886063983}',8743940774807609249,8252301890758148328,57,'fb4c70c42678c92d','one by one: it is a fake','reached',14,1.0);
INSERT INTO "trials" VALUES(8,'8f984dfc69df563a','confirm',2,'{"learning_rate": 0.06653623886063983}',4299952423031073726,4103180819817877291,57,'fb4c70c42678c92d','one by one: it is a fake','reached',16,1.0);
INSERT INTO "trials" VALUES(9,'a30e793612b6caae','confirm',3,'{"learning_rate": 0.06653623886063983}',7634358119337563468,3399732972335765156,57,'fb4c70c42678c92d','one by one: it is a fake','reached',22,1.0);
INSERT INTO "trials" VALUES(10,'33ae57a7f7fa5435','confirm',4,'{"learning_rate": 0.06653623886063983}',2711691153595025883,3765723381289960277,57,'fb4c70c42678c92d','one by one: it is a fake','exhausted',57,1.0);
COMMIT;
