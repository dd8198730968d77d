package setup

import (
	"strings"

	"rsc.io/qr"
)

// QRCode draws text as a QR code of half blocks, dark on light, for a terminal
// and a phone's camera. It has the quiet border that cameras need.
func QRCode(text string) (string, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return "", err
	}
	const border = 4
	light := func(x, y int) bool { return !code.Black(x, y) } // outside of it, too
	var b strings.Builder
	for y := -border; y < code.Size+border; y += 2 {
		b.WriteString("\x1b[30;107m")
		for x := -border; x < code.Size+border; x++ {
			switch upper, lower := light(x, y), light(x, y+1); {
			case upper && lower:
				b.WriteRune(' ')
			case upper:
				b.WriteRune('▄')
			case lower:
				b.WriteRune('▀')
			default:
				b.WriteRune('█')
			}
		}
		b.WriteString("\x1b[0m\n")
	}
	return b.String(), nil
}
