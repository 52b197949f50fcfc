/**
 * The en-US words and symbols of numbers, units and currencies, as the Unicode CLDR has them.
 */

/** Unit → long singular, long plural, short singular, short plural, narrow; each with what separates it from the number. */
export const units: Record<string, readonly [string, string, string, string, string]> = Object.assign(Object.create(null), {
  "acre": ["acre", "acres", " ac", " ac", "ac"],
  "bit": ["bit", "bits", " bit", " bit", "bit"],
  "byte": ["byte", "bytes", " byte", " byte", "B"],
  "celsius": ["degree Celsius", "degrees Celsius", "°C", "°C", "°C"],
  "centimeter": ["centimeter", "centimeters", " cm", " cm", "cm"],
  "day": ["day", "days", " day", " days", "d"],
  "degree": ["degree", "degrees", " deg", " deg", "°"],
  "fahrenheit": ["degree Fahrenheit", "degrees Fahrenheit", "°F", "°F", "°"],
  "fluid-ounce": ["fluid ounce", "fluid ounces", " fl oz", " fl oz", "fl oz"],
  "foot": ["foot", "feet", " ft", " ft", "′"],
  "gallon": ["gallon", "gallons", " gal", " gal", "gal"],
  "gigabit": ["gigabit", "gigabits", " Gb", " Gb", "Gb"],
  "gigabyte": ["gigabyte", "gigabytes", " GB", " GB", "GB"],
  "gram": ["gram", "grams", " g", " g", "g"],
  "hectare": ["hectare", "hectares", " ha", " ha", "ha"],
  "hour": ["hour", "hours", " hr", " hr", "h"],
  "inch": ["inch", "inches", " in", " in", "″"],
  "kilobit": ["kilobit", "kilobits", " kb", " kb", "kb"],
  "kilobyte": ["kilobyte", "kilobytes", " kB", " kB", "kB"],
  "kilogram": ["kilogram", "kilograms", " kg", " kg", "kg"],
  "kilometer": ["kilometer", "kilometers", " km", " km", "km"],
  "liter": ["liter", "liters", " L", " L", "L"],
  "megabit": ["megabit", "megabits", " Mb", " Mb", "Mb"],
  "megabyte": ["megabyte", "megabytes", " MB", " MB", "MB"],
  "meter": ["meter", "meters", " m", " m", "m"],
  "microsecond": ["microsecond", "microseconds", " μs", " μs", "μs"],
  "mile": ["mile", "miles", " mi", " mi", "mi"],
  "mile-scandinavian": ["mile-scandinavian", "miles-scandinavian", " smi", " smi", "smi"],
  "milliliter": ["milliliter", "milliliters", " mL", " mL", "mL"],
  "millimeter": ["millimeter", "millimeters", " mm", " mm", "mm"],
  "millisecond": ["millisecond", "milliseconds", " ms", " ms", "ms"],
  "minute": ["minute", "minutes", " min", " min", "m"],
  "month": ["month", "months", " mth", " mths", "m"],
  "nanosecond": ["nanosecond", "nanoseconds", " ns", " ns", "ns"],
  "ounce": ["ounce", "ounces", " oz", " oz", "oz"],
  "percent": ["percent", "percent", "%", "%", "%"],
  "petabyte": ["petabyte", "petabytes", " PB", " PB", "PB"],
  "pound": ["pound", "pounds", " lb", " lb", "#"],
  "second": ["second", "seconds", " sec", " sec", "s"],
  "stone": ["stone", "stones", " st", " st", "st"],
  "terabit": ["terabit", "terabits", " Tb", " Tb", "Tb"],
  "terabyte": ["terabyte", "terabytes", " TB", " TB", "TB"],
  "week": ["week", "weeks", " wk", " wks", "w"],
  "yard": ["yard", "yards", " yd", " yd", "yd"],
  "year": ["year", "years", " yr", " yrs", "y"],
});

/** What `per` a unit is written as where it differs from its short form, and compounds with a form of their own. */
export const perUnits: Record<string, string> = Object.assign(Object.create(null), {
  second: "s", minute: "min", hour: "h", day: "d", week: "w", month: "m", year: "y", gallon: "gal US",
});
export const compounds: Record<string, string> = Object.assign(Object.create(null), { "mile-per-hour": "mph", "mile-per-gallon": "mpg" });

export const currencySymbols: Record<string, string> = Object.assign(Object.create(null), {
  AUD: "A$", BRL: "R$", CAD: "CA$", CNY: "CN¥", EUR: "€", GBP: "£", HKD: "HK$", ILS: "₪", INR: "₹", JPY: "¥", KRW: "₩", MXN: "MX$",
  NZD: "NZ$", PHP: "₱", TWD: "NT$", USD: "$", VND: "₫", XAF: "FCFA", XCD: "EC$", XOF: "F\u202fCFA", XPF: "CFPF",
});

export const narrowCurrencySymbols: Record<string, string> = Object.assign(Object.create(null), {
  AFN: "؋", AMD: "֏", AOA: "Kz", ARS: "$", AUD: "$", AZN: "₼", BAM: "KM", BBD: "$", BDT: "৳", BMD: "$", BND: "$", BOB: "Bs", BSD:
  "$", BWP: "P", BZD: "$", CAD: "$", CLP: "$", CNY: "¥", COP: "$", CRC: "₡", CUC: "$", CUP: "$", CZK: "Kč", DKK: "kr", DOP: "$",
  EGP: "E£", FJD: "$", FKP: "£", GEL: "₾", GHS: "GH₵", GIP: "£", GNF: "FG", GTQ: "Q", GYD: "$", HKD: "$", HNL: "L", HRK: "kn", HUF:
  "Ft", IDR: "Rp", ISK: "kr", JMD: "$", KGS: "⃀", KHR: "៛", KMF: "CF", KPW: "₩", KYD: "$", KZT: "₸", LAK: "₭", LBP: "L£", LKR: "Rs",
  LRD: "$", MGA: "Ar", MMK: "K", MNT: "₮", MUR: "Rs", MXN: "$", MYR: "RM", NAD: "$", NGN: "₦", NIO: "C$", NOK: "kr", NPR: "Rs", NZD:
  "$", PKR: "Rs", PLN: "zł", PYG: "₲", RON: "lei", RUB: "₽", RWF: "RF", SBD: "$", SEK: "kr", SGD: "$", SHP: "£", SRD: "$", SSP: "£",
  STN: "Db", SYP: "£", THB: "฿", TOP: "T$", TRY: "₺", TTD: "$", TWD: "$", UAH: "₴", UYU: "$", XCD: "$", ZAR: "R", ZMW: "ZK",
});

/** Currencies whose smallest unit is not a hundredth. */
const withoutFraction =
  "AFN ALL BIF CLP COP DJF GNF HUF IDR IQD IRR ISK JPY KMF KPW KRW LAK LBP MGA MMK PKR PYG RSD RWF SLL SOS SYP " +
  "UGX VND VUV XAF XOF XPF YER ";
const withThousandths = "BHD JOD KWD LYD OMR TND";

export function currencyDigits(currency: string): number {
  return withoutFraction.includes(currency) ? 0 : withThousandths.includes(currency) ? 3 : 2;
}

/** Singular and plural names of the most used currencies; others have no name here. */
export const currencyNames: Record<string, readonly [string, string]> = Object.assign(Object.create(null), {
  USD: ["US dollar", "US dollars"],
  EUR: ["euro", "euros"],
  GBP: ["British pound", "British pounds"],
  JPY: ["Japanese yen", "Japanese yen"],
  CNY: ["Chinese yuan", "Chinese yuan"],
  INR: ["Indian rupee", "Indian rupees"],
  KRW: ["South Korean won", "South Korean won"],
  AUD: ["Australian dollar", "Australian dollars"],
  CAD: ["Canadian dollar", "Canadian dollars"],
  NZD: ["New Zealand dollar", "New Zealand dollars"],
  CHF: ["Swiss franc", "Swiss francs"],
  SEK: ["Swedish krona", "Swedish kronor"],
  NOK: ["Norwegian krone", "Norwegian kroner"],
  DKK: ["Danish krone", "Danish kroner"],
  PLN: ["Polish zloty", "Polish zlotys"],
  CZK: ["Czech koruna", "Czech korunas"],
  HUF: ["Hungarian forint", "Hungarian forints"],
  RON: ["Romanian leu", "Romanian lei"],
  BGN: ["Bulgarian lev", "Bulgarian leva"],
  TRY: ["Turkish lira", "Turkish Lira"],
  RUB: ["Russian ruble", "Russian rubles"],
  UAH: ["Ukrainian hryvnia", "Ukrainian hryvnias"],
  ILS: ["Israeli new shekel", "Israeli new shekels"],
  ZAR: ["South African rand", "South African rand"],
  BRL: ["Brazilian real", "Brazilian reals"],
  MXN: ["Mexican peso", "Mexican pesos"],
  ARS: ["Argentine peso", "Argentine pesos"],
  CLP: ["Chilean peso", "Chilean pesos"],
  COP: ["Colombian peso", "Colombian pesos"],
  PEN: ["Peruvian sol", "Peruvian soles"],
  SGD: ["Singapore dollar", "Singapore dollars"],
  HKD: ["Hong Kong dollar", "Hong Kong dollars"],
  TWD: ["New Taiwan dollar", "New Taiwan dollars"],
  THB: ["Thai baht", "Thai baht"],
  IDR: ["Indonesian rupiah", "Indonesian rupiahs"],
  MYR: ["Malaysian ringgit", "Malaysian ringgits"],
  PHP: ["Philippine peso", "Philippine pesos"],
  VND: ["Vietnamese dong", "Vietnamese dong"],
  PKR: ["Pakistani rupee", "Pakistani rupees"],
  BDT: ["Bangladeshi taka", "Bangladeshi takas"],
  EGP: ["Egyptian pound", "Egyptian pounds"],
  NGN: ["Nigerian naira", "Nigerian nairas"],
  KES: ["Kenyan shilling", "Kenyan shillings"],
  MAD: ["Moroccan dirham", "Moroccan dirhams"],
  AED: ["UAE dirham", "UAE dirhams"],
  SAR: ["Saudi riyal", "Saudi riyals"],
  QAR: ["Qatari riyal", "Qatari riyals"],
  KWD: ["Kuwaiti dinar", "Kuwaiti dinars"],
  ISK: ["Icelandic kr\u00f3na", "Icelandic kr\u00f3nur"],
  XAF: ["Central African CFA franc", "Central African CFA francs"],
  XOF: ["West African CFA franc", "West African CFA francs"],
  XPF: ["CFP franc", "CFP francs"],
  XCD: ["East Caribbean dollar", "East Caribbean dollars"],
});

export const currencyCodes =
  "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF " +
  "CHF CLP CNY COP CRC CUC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD " +
  "HKD HNL HRK HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD " +
  "LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP " +
  "PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLL SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND " +
  "TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VES VND VUV WST XAF XCD XDR XOF XPF XSU YER ZAR ZMW ZWL ";
