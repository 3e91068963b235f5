package bench

// fanout publishes to a store with several durables, all of which consume and
// acknowledge everything, closed loop.
func fanout(r *run) (*Figures, error) {
	f, err := stream(r)
	if err != nil {
		return nil, err
	}
	f.More = map[string]float64{
		"deliveries_per_s": f.MsgsPerSec * float64(r.load.Durables),
	}
	return f, nil
}
