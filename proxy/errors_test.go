package proxy

// allErrors lists every refusal whose text never varies.
func allErrors() []*apiError {
	return []*apiError{
		errNoKey, errBadKey, errTwoKeys, errKeysUnavailable, errTenant, errModelNotAllowed, errModelNotFound, errModelFirst,
		errUnknownURL, errNoUpstream, errMethod, errVersion, errUpgrade, errDotDot, errPathBytes, errConnection, errVague, errBodyTooBig,
		errBodyTimeout, errBodyBroken, errEncodedBody, errHeld, errShed, errDraining, errPanic,
		errUpstreamBusy, errUpstreamConnect, errConnectTimeout, errUpstreamCut, errUpstreamGarbage, errUpstreamAuth,
		errHeadTimeout, errFirstEventTimeout, errIdleTimeout, errTotalTimeout, errStreamTooLong, errStoppedReading,
	}
}
