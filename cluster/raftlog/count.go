package raftlog

// Syncs returns how many syncs of files the engine has asked its file system for
// since it was opened, Pebble's included. In mode async a sync that was put off
// counts when it happens. It is one load of a counter: unlike Metrics it may be
// asked at any rate.
func (e *Engine) Syncs() uint64 { return e.disk.syncs.Load() }
